"""The engine of the comparison: the real server of worker/engine/job_line.py over its real socket, around a sleep.

python -m benchmarks.serving.engine              what the launcher starts
python -m benchmarks.serving.engine --launcher   the service's launcher with this engine
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator

from benchmarks.serving.work import FPS, JobInputs
from mpd.methods import METHODS, Settings
from mpd.progress import Pictures, Progress, Take
from service.fleet.engines import EngineState
from service.observe import logs
from worker import launcher
from worker.engine import protocol
from worker.engine.job_line import JobServer
from worker.engine.main import Publisher
from worker.process import exit_codes


def serve() -> int:
    settings = exit_codes.settings()
    logs.configure(settings)
    assert settings.engine_dir is not None
    work = JobInputs.here()
    publisher = Publisher(settings)
    publisher.start()
    server = JobServer(protocol.socket_path(settings.engine_dir), lambda job: publisher.say(busy_with=job))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: server.stop())
    facts = {
        "revision": None,
        "license": None,
        "device": "cpu",
        "native_frames": work.count,
        "native_size": work.size,
        "size_multiple": 8,
    }
    server.model = {**facts, "name": "sleep", "dtype": "float32"}
    methods = tuple(method.name for method in METHODS.values() if method.needs_model)
    publisher.say(**facts, state=EngineState.ready, methods=methods, seconds_per_call=0.001)

    def generate(pictures: list[Pictures], options: Settings, bits: int) -> Iterator[Progress | Take]:
        frames = work.generate(pictures)
        yield Progress(0, 1, 0, 1, 1, 1, 1.0, None, lambda: None)
        yield Take(0, options.seeds[0], frames, FPS)

    server.run(generate)
    return 0


if __name__ == "__main__":
    if sys.argv[1:] == ["--launcher"]:
        settings = exit_codes.settings()
        logs.configure(settings)
        sys.exit(launcher.run(settings, (sys.executable, "-m", "benchmarks.serving.engine")))
    sys.exit(serve())
