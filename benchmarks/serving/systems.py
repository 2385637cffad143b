"""The servers that are compared: how each is started, and how one asks it for a video.

`Ours` is the whole service as in production, on one machine: redis-server that writes every answer down first, API,
keeper and launcher with its workers, files in a local folder. The peers run in environments of their own.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import redis

from benchmarks.serving import environments
from benchmarks.serving.caller import TIMEOUT, CallRefused, LoadCaller, form
from benchmarks.serving.work import FOLDER, ROOT, SHAPE, JobInputs, jpeg
from service.fleet.engines import EngineState, live
from service.settings import ServiceSettings
from trials.processes import Processes
from trials.servers import RedisProcess, free_port

START_SECONDS = 120.0
POLL_SECONDS = 0.005


class System(ABC):
    """One server, between `start` and `stop`. area: an empty folder of its own.

    name: in tables. durable: what an answer to a submission promises, in words.
    """

    name: str
    durable: str
    polls = True
    """Whether one can ask how a job is doing."""
    answers_with_video = False
    """Whether a submission is answered with the video, and not before it is there."""

    def __init__(self, area: Path, shape: tuple[int, int, int]) -> None:
        self.area = area
        area.mkdir(parents=True)
        self.port = free_port()
        self.work = JobInputs(area, shape)
        self.work.take(0.0)
        self.environment = {
            **os.environ,
            FOLDER: str(area),
            SHAPE: "x".join(map(str, shape)),
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "TMPDIR": str(area),
        }
        self.files = {name: jpeg(name) for name in ("start", "end")}
        self._processes: list[psutil.Popen] = []

    @abstractmethod
    def start(self) -> None:
        """Start the server and return when it has answered."""

    @abstractmethod
    def submit(self, caller: LoadCaller) -> str:
        """Hand two JPEGs over, and give what names the job."""

    @abstractmethod
    def result(self, caller: LoadCaller) -> bytes:
        """Fetch the video of two JPEGs, as fast as it can be had."""

    def poll(self, caller: LoadCaller, job: str) -> None:
        """Ask once how a job is doing."""
        raise NotImplementedError

    def stop(self) -> None:
        """Stop whatever was started, and what that has started."""
        family = self._started()
        for one in family:
            _kill(one)
        psutil.wait_procs(family, timeout=10)
        shutil.rmtree(self.area, ignore_errors=True)

    def log(self) -> str:
        """Read the end of what its processes said."""
        return "\n".join(path.read_text()[-3000:] for path in sorted(self.area.glob("*.log")))

    def memory(self) -> int:
        """Count the bytes of memory that belong to its processes, what several share divided among them (PSS)."""
        return int(sum(_measured(one, lambda one: one.memory_full_info().pss) for one in self._family()))

    def processor(self) -> float:
        """Count the processor seconds that its processes have used, those too that have ended."""
        return float(sum(_measured(one, lambda one: sum(one.cpu_times()[:4])) for one in self._family()))

    def _started(self) -> list[psutil.Process]:
        return [one for process in self._processes for one in (process, *_below(process))]

    def _family(self) -> list[psutil.Process]:
        """List all processes that work for it."""
        return self._started()

    def _run(self, name: str, command: list[str], **variables: str) -> psutil.Popen:
        process = Processes(self.area, self.environment).start(name, command, **variables)
        self._processes.append(process)
        return process

    def _await(self, path: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                with LoadCaller(self.port) as caller:
                    caller.ask("GET", path, 200)
                return
            except (OSError, CallRefused):
                ended = [process for process in self._processes if process.poll() is not None]
                if ended or time.monotonic() > deadline:
                    raise RuntimeError(f"{self.name} does not start:\n{self.log()}") from None
                time.sleep(0.1)


class Ours(System):
    name = "inbetween"
    durable = "in Redis' append-only file and two files, all synced; survives kill -9 of everything"

    def __init__(self, area: Path, shape: tuple[int, int, int]) -> None:
        super().__init__(area, shape)
        store = area / "redis"
        store.mkdir()
        self._redis = RedisProcess(store, "--appendonly", "yes", "--appendfsync", "always")

    def start(self) -> None:
        self._redis.start()
        self.environment |= {
            "REDIS_URL": self._redis.url,
            "STORAGE_URL": str(self.area / "storage"),
            "PORT": str(self.port),
            "AUTH": "off",
            "MODEL": "sleep",
            "LOG_LEVEL": "warning",
            "MAX_QUEUE": "0",
        }
        cli = [sys.executable, "-m", "server.cli"]
        self._run("api", [*cli, "api"])
        self._run("keeper", [*cli, "keeper"])
        self._run("launcher", [sys.executable, "-m", "benchmarks.serving.engine", "--launcher"])
        self._await("/readyz")
        self._await_engine()
        self._form = form(self.files, {"method": "mpd-vibid", "formats": ["mp4"]})

    def submit(self, caller: LoadCaller) -> str:
        body, headers = self._form
        return str(json.loads(caller.ask("POST", "/inbetween", 202, body, headers)[0])["id"])

    def result(self, caller: LoadCaller) -> bytes:
        # The server closes a connection that waits as long as a video may take.
        with LoadCaller(self.port) as own:
            job = self.submit(own)
            own.follow(f"/inbetween/{job}/events", lambda line: line.startswith(b"data:") and b"succeeded" in line)
            _, headers = own.ask("GET", f"/inbetween/{job}/video", 307)
            return own.follow_link(headers["location"])

    def poll(self, caller: LoadCaller, job: str) -> None:
        caller.ask("GET", f"/inbetween/{job}", 200)

    def stop(self) -> None:
        super().stop()
        self._redis.kill()

    def _family(self) -> list[psutil.Process]:
        with redis.Redis.from_url(self._redis.url) as connection:
            server: Any = connection.info("server")
        return [*self._started(), psutil.Process(server["process_id"])]

    def _await_engine(self) -> None:
        settings = ServiceSettings.model_validate({"redis_url": self._redis.url})
        deadline = time.monotonic() + START_SECONDS
        with redis.Redis.from_url(self._redis.url) as connection:
            while not any(engine.state is EngineState.ready for engine in live(connection, settings)):
                assert time.monotonic() < deadline, (self.area / "launcher.log").read_text()
                time.sleep(0.1)


class Synchronous(System):
    """A server that answers with the video: the caller waits on its connection."""

    polls = False
    answers_with_video = True
    path: str

    def result(self, caller: LoadCaller) -> bytes:
        body, headers = form(self.files)
        return caller.ask("POST", self.path, 200, body, headers)[0]

    def submit(self, caller: LoadCaller) -> str:
        self.result(caller)
        return ""


class LitServe(Synchronous):
    name = "LitServe"
    durable = "nothing: the request is in memory"
    path = "/predict"

    def start(self) -> None:
        python = environments.python("litserve")
        self._run("litserve", [str(python), "-m", "benchmarks.serving.litserve_server", str(self.port)])
        self._await("/health")


class BentoML(Synchronous):
    name = "BentoML"
    durable = "nothing: the request is in memory"
    path = "/now"
    workers = 2

    def start(self) -> None:
        command = [str(environments.python("bentoml").with_name("bentoml")), "serve", "--quiet"]
        where = ["--host", "127.0.0.1", "--port", str(self.port)]
        home = {
            "BENTOML_HOME": str(self.area / "home"),
            "BENTOML_DO_NOT_TRACK": "True",
            "SERVING_WORKERS": str(self.workers),
        }
        self._run("bentoml", [*command, "benchmarks.serving.bentoml_service:Inbetween", *where], **home)
        self._await("/readyz")


class BentoMLTask(BentoML):
    name = "BentoML, task"
    durable = "in SQLite, not synced; a task that runs or waits is lost with its process"
    polls = True
    answers_with_video = False
    workers = 1
    """Two write to one SQLite file, and then submissions are refused: `database is locked`."""

    def submit(self, caller: LoadCaller) -> str:
        body, headers = form(self.files)
        return str(json.loads(caller.ask("POST", "/later/submit", 200, body, headers)[0])["task_id"])

    def poll(self, caller: LoadCaller, job: str) -> None:
        self._status(caller, job)

    def result(self, caller: LoadCaller) -> bytes:
        job, deadline = self.submit(caller), time.monotonic() + TIMEOUT
        while self._status(caller, job) != "completed":
            # A task that raised stays `in_progress`.
            assert time.monotonic() < deadline, f"task {job} does not end"
            time.sleep(POLL_SECONDS)
        return caller.ask("GET", f"/later/get?task_id={job}", 200)[0]

    def _status(self, caller: LoadCaller, job: str) -> Any:
        answer = json.loads(caller.ask("GET", f"/later/status?task_id={job}", 200)[0])
        if answer["status"] in ("failed", "canceled"):
            raise CallRefused(f"task {job} failed")
        return answer["status"]


SYSTEMS: dict[str, tuple[type[System], ...]] = {
    "inbetween": (Ours,),
    "litserve": (LitServe,),
    "bentoml": (BentoML, BentoMLTask),
}


def _below(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def _measured(process: psutil.Process, measure: Callable[[psutil.Process], Any]) -> Any:
    """Measure a process; nothing, for one that has ended meanwhile."""
    try:
        return measure(process)
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return 0


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return
