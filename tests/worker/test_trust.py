"""Between processes goes JSON: what is planted in Redis, or sent to an engine, is read and never run."""

from __future__ import annotations

import ast
import hashlib
import io
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing.connection import Client
from pathlib import Path
from typing import Any

import pytest
import redis
from PIL import Image
from rq import Queue
from rq.serializers import PickleSerializer

from service.jobs.record import NewJob, State, files_prefix, new_id
from service.jobs.store import Jobs
from service.settings import ServiceSettings
from service.storage import open_storage
from worker import launcher
from worker.engine import job_line, protocol

ROOT = Path(__file__).parents[2]
FOLDERS = ("mpd", "service", "worker", "server", "examples")
CODE = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
RUNNERS = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "jsonpickle", "marshal", "shelve", "joblib"}
"""Modules whose readers run what they read."""


class Planted:
    """Once unpickled, it has left a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def test_nothing_here_can_unpickle() -> None:
    assert len(CODE) > 80
    found = []
    for path in CODE:
        tree = list(ast.walk(ast.parse(path.read_text())))
        imported = [(node.module or "", node.names) for node in tree if isinstance(node, ast.ImportFrom)]
        modules = [module for module, _ in imported]
        modules += [alias.name for node in tree if isinstance(node, ast.Import) for alias in node.names]
        found += [f"{path} imports {name}" for name in modules if name.partition(".")[0] in RUNNERS]
        of_rq = {alias.name for module, names in imported if module == "rq" for alias in names} & {"Queue", "Worker"}
        calls = [node for node in tree if isinstance(node, ast.Call)]
        found += [f"{path}:{call.lineno} {fault}" for call in calls for fault in faults(call, of_rq)]
    assert found == []


def faults(call: ast.Call, of_rq: set[str]) -> list[str]:
    """What is wrong with a call that may run what it reads. of_rq: names that are RQ's in this file."""
    name = ast.unparse(call.func)
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    if name == "torch.load" and given.get("weights_only") != "True":
        return ["loads weights that may be code"]
    if name.endswith("np.load") and given.get("allow_pickle", "False") != "False":
        return ["loads arrays that may be code"]
    if name in of_rq and given.get("serializer") != "JSONSerializer":
        return ["has RQ's own serializer, which is pickle"]
    if name in ("eval", "exec") or (name.endswith(".recv") and not call.args):
        return [f"runs what it reads: {name}"]
    return []


def test_weights_are_read_from_safetensors_alone() -> None:
    source = (ROOT / "mpd" / "svd" / "weights.py").read_text()
    assert source.count(".from_pretrained(") == source.count(", **options)")
    assert '"use_safetensors": True' in source


@pytest.fixture
def connection(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, socket_timeout=120) as opened:
        yield opened


def test_a_pickle_in_the_queue_is_not_run(connection: redis.Redis, redis_url: str, tmp_path: Path) -> None:
    """A worker as it really runs finds it, throws it out, and does the job behind it."""
    mark = tmp_path / "mark"
    settings = ServiceSettings(_env_file=None, redis_url=redis_url, storage_url=str(tmp_path / "storage"))
    jobs = Jobs(connection, settings)
    name = settings.queues["cpu"][0]
    planted = Queue(name, connection=connection, serializer=PickleSerializer)
    planted.enqueue("worker.tasks.run", Planted(mark), 1, job_id="planted-1", meta={"x": Planted(mark)})
    job = submit(jobs, settings)
    environment = {**os.environ, "REDIS_URL": redis_url, "STORAGE_URL": settings.storage_url}
    worker = subprocess.Popen([sys.executable, "-m", "worker.listener", name], env=environment, cwd=ROOT)
    try:
        until_over(connection, jobs, job)
    finally:
        worker.terminate()
        worker.wait(60)
    after = jobs.get(job)
    assert after is not None
    assert after.state is State.succeeded, after.error
    assert not connection.llen(f"rq:queue:{name}"), "it was taken"
    assert not mark.exists()


def submit(jobs: Jobs, settings: ServiceSettings) -> str:
    """The id of a queued job of the highest priority."""
    job_id = new_id()
    key = f"{files_prefix(job_id)}keyframes/0"
    buffer = io.BytesIO()
    Image.new("RGB", (48, 32), "navy").save(buffer, "PNG")
    open_storage(settings, jobs.redis).put(key, buffer.getvalue(), "image/png")
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    keyframe = {"key": key, "content_type": "image/png", "sha256": digest, "size": buffer.tell()}
    options = {"method": "flow", "formats": ["png"], "frames": 2}
    new = NewJob("local", options, [keyframe, keyframe], "cpu", result_ttl=600, id=job_id, priority="high")
    return jobs.submit(new).id


def until_over(connection: redis.Redis, jobs: Jobs, job_id: str) -> None:
    last = "0-0"
    for _ in range(100):
        found: Any = connection.xread({jobs.keys.events(job_id): last}, block=60_000)
        assert found, "nothing happened for a minute"
        entries = found[0][1] if isinstance(found, list) else next(iter(found.values()))[0]
        last = entries[-1][0]
        job = jobs.get(job_id)
        if job is not None and job.state.is_terminal:
            return
    raise AssertionError("it has no end")


def test_a_pickle_sent_to_an_engine_is_not_run(tmp_path: Path) -> None:
    path = protocol.socket_path(tmp_path)
    job_line.JobServer(path)
    mark = tmp_path / "mark"
    for nonsense in (b'{"type": "status", "parts": 1000000000}', b'{"type": "status", "parts": true}', b"[1]"):
        with Client(path, family="AF_UNIX") as rude:
            rude.send_bytes(nonsense)
            with pytest.raises((EOFError, ConnectionResetError)):
                rude.recv_bytes()
    with Client(path, family="AF_UNIX") as rude:
        rude.send(Planted(mark))
        with pytest.raises((EOFError, ConnectionResetError)):
            rude.recv_bytes()
    with Client(path, family="AF_UNIX") as polite:
        protocol.send(polite, "status", {})
        assert polite.poll(30)
        assert protocol.receive(polite).type == "status"
    assert not mark.exists()


def test_an_engines_socket_is_its_users_alone(tmp_path: Path) -> None:
    path = protocol.socket_path(tmp_path)
    job_line.JobServer(path)
    assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600


@pytest.mark.parametrize("there", [False, True])
def test_the_folder_of_an_engines_socket_is_its_users_alone(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    folder = tmp_path / "engine"
    if there:
        folder.mkdir(mode=0o777)
        folder.chmod(0o777)
    seen = []

    def run(self: launcher.Launcher) -> int:
        seen.append(stat.S_IMODE(folder.stat().st_mode))
        return 0

    monkeypatch.setattr(launcher.Launcher, "run", run)
    assert launcher.run(ServiceSettings(_env_file=None, redis_url=redis_url, engine_dir=folder)) == 0
    assert seen == [0o700]
