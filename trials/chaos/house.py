"""All processes of one installation of the service, real ones, under a supervisor that starts again what ends.

A redis-server that writes everything down before it answers, the S3 server behind a proxy, the API, keepers and
launchers. Knows how to find each process and how to start it, and nothing of why it should be hurt.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import boto3
import httpx
import psutil
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from server.up import redis_executable
from service.fleet.engines import EngineState, live
from service.jobs.record import new_id
from service.jobs.store import Jobs
from service.settings import ServiceSettings
from service.storage import Storage, open_storage
from trials.chaos.databases import Databases
from trials.chaos.machines import Machine
from trials.chaos.proxy import Proxy
from trials.processes import Processes, answers
from trials.servers import free_port

ROOT = Path(__file__).resolve().parents[2]
HOUSE_PATIENCE = 180.0
RESTART_SECONDS = 0.5
"""Pause before something that ended by itself is started again."""

KEEPERS = ("keeper-1", "keeper-2")
LAUNCHERS = ("launcher-gpu", "launcher-cpu")


class House:
    """A context manager. Start it from the main thread: the S3 server ends with the thread that started it.

    variables: settings of the service beside the house's own. model: folder of the engine's model. impatient: whether
    launchers trust a machine that was sick again after seconds.
    """

    services: tuple[str, ...] = ("api", *KEEPERS, *LAUNCHERS)
    """Every process but Redis and storage, in the order in which they start."""

    def __init__(self, area: Path, model: Path, *, impatient: bool = False, **variables: str) -> None:
        self.area = area
        self._server = ("-P", str(Path(__file__).with_name("impatient.py"))) if impatient else ("-m", "server.cli")
        self._ports = {name: free_port() for name in ("redis", "s3", "proxy", "api")}
        self.namespace = f"chaos-{new_id()[-8:]}"
        self.url = f"http://127.0.0.1:{self._ports['api']}"
        self._model = model
        self._variables = {
            "REDIS_URL": f"redis://127.0.0.1:{self._ports['redis']}/0",
            "NAMESPACE": self.namespace,
            "PORT": str(self._ports["api"]),
            "AUTH": "off",
            "FETCH_ALLOW_HOSTS": "127.0.0.1",
            "STORAGE_URL": "s3://chaos/home",
            "STORAGE_ENDPOINT": f"http://127.0.0.1:{self._ports['proxy']}",
            "STORAGE_ACCESS_KEY": "test:tester",
            "STORAGE_SECRET_KEY": "testing",
            "OMP_NUM_THREADS": "1",
            "MODEL": "",
            "RIFE": "off",
            "LOG_FORMAT": "json",
            **variables,
        }
        direct = {**self._variables, "STORAGE_ENDPOINT": f"http://127.0.0.1:{self._ports['s3']}"}
        self.settings = ServiceSettings.model_validate({name.lower(): value for name, value in direct.items()})
        self.proxy = Proxy(self._ports["proxy"], self._ports["s3"])
        self.redis = redis.Redis.from_url(self.settings.redis_url, socket_timeout=10, socket_connect_timeout=5)
        self.jobs = Jobs(self.redis, self.settings)
        retry = Retry(NoBackoff(), 0)
        hasty = redis.Redis.from_url(self.settings.redis_url, socket_timeout=0.5, retry=retry)
        self.hasty = Jobs(hasty, self.settings)
        """The same jobs, for whoever must not wait for a Redis that is down."""
        self.databases = Databases(self.settings)
        self.machines = {name: Machine() for name in LAUNCHERS}
        self.storage: Storage
        self.hasty_storage: Storage
        """The same storage, for whoever must not wait for one that is down."""
        self.restarts = 0
        """How often the supervisor found something ended that nobody had ended, since the house was ready."""
        self._processes: dict[str, psutil.Popen] = {}
        self._starts_at: dict[str, float] = {}
        self._starter = Processes(area, self._variables, working=area)
        self._open = ExitStack()

    def __enter__(self) -> House:
        with ExitStack() as opened:
            for machine in self.machines.values():
                opened.enter_context(machine)
            opened.callback(self._kill_all)
            (self.area / "redis").mkdir(parents=True)
            (self.area / "s3").mkdir()
            opened.enter_context(self.proxy)
            opened.callback(self.redis.close)
            opened.callback(self.hasty.redis.close)
            opened.callback(self.databases.close)
            self._begin("redis")
            self._begin("s3")
            self._make_bucket()
            for name in self.services:
                self._begin(name)
            self.storage = open_storage(self.settings, self.redis)
            self.hasty_storage = open_storage(self.settings, self.redis, timeout=1, attempts=1)
            self.await_ready()
            # All start at once: on a busy machine storage may answer one too late, which ends and is started again.
            self.restarts = 0
            self._open = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def await_ready(self) -> None:
        """Wait until the API and an engine answer."""
        deadline = time.monotonic() + HOUSE_PATIENCE
        while time.monotonic() < deadline:
            self.tend()
            try:
                answered = httpx.get(f"{self.url}/readyz", timeout=5, trust_env=False).status_code == 200
                if answered and any(engine.state is EngineState.ready for engine in live(self.redis, self.settings)):
                    return
            except (httpx.TransportError, redis.RedisError):
                # Not there yet.
                pass
            time.sleep(0.1)
        raise AssertionError(f"the service does not become ready; its logs are in {self.area}")

    def tend(self) -> None:
        """Start whatever should run and does not, after its pause. Call it often."""
        now = time.monotonic()
        for name, process in list(self._processes.items()):
            if name not in self._starts_at and process.poll() is not None:
                self.restarts += 1
                self._starts_at[name] = now + RESTART_SECONDS
            if now >= self._starts_at.get(name, now + 1):
                self._begin(name)

    def process(self, name: str) -> psutil.Popen | None:
        """Give a process by name, unless it is down."""
        process = self._processes[name]
        return None if name in self._starts_at or process.poll() is not None else process

    def kill(self, name: str, seconds: float) -> None:
        """Kill a process with kill -9, and start it again after so long."""
        self._processes[name].kill()
        self._processes[name].wait(10)
        self._starts_at[name] = time.monotonic() + seconds

    def restart(self, name: str) -> None:
        """Send SIGTERM to a process, and start it again once it has ended by itself. Returns before it is ready."""
        self._processes[name].terminate()
        self._processes[name].wait(HOUSE_PATIENCE)
        self._begin(name)

    def launchers(self) -> list[psutil.Popen]:
        return [found for name in LAUNCHERS if (found := self.process(name)) is not None]

    def engines(self) -> list[psutil.Process]:
        return [one for launcher in self.launchers() for one in below(launcher) if has(one, "worker.engine.main")]

    def unwell(self, launcher: str) -> bool:
        """Tell whether a launcher says that its machine is not well; not as long as Redis cannot be asked."""
        process = self.process(launcher)
        if process is None:
            return False
        try:
            said = self.hasty.redis.zscore(f"{self.namespace}:unwell", f"{socket.gethostname()}-{process.pid}")
        except redis.RedisError:
            return False
        return said is not None

    def workers_of(self, launcher: psutil.Process | None) -> list[psutil.Process]:
        """List RQ's workers of one launcher that run jobs, with their work-horses."""
        workers = [one for one in below(launcher) if has(one, "worker.listener")] if launcher is not None else []
        return [one for worker in workers if not has(worker, "--scheduler") for one in families(worker)]

    def workers(self) -> list[psutil.Process]:
        """List RQ's workers, those for webhooks too."""
        return [one for launcher in self.launchers() for one in below(launcher) if has(one, "worker.listener")]

    def horses(self) -> list[psutil.Process]:
        """List work-horses that run jobs."""
        return [horse for worker in self.workers() if not has(worker, "--scheduler") for horse in below(worker)]

    def belonging(self) -> list[psutil.Process]:
        """List every process of this house on the machine, whoever its parent is."""
        mark = f"NAMESPACE={self.namespace}".encode()
        return [one for one in psutil.process_iter() if mark in _environment(one.pid).split(b"\0")]

    def shut(self) -> list[psutil.Process]:
        """Send SIGTERM to all but Redis and storage, and list those processes of the house that then do not end."""
        ours = [self._processes[name] for name in self.services]
        for process in ours:
            if process.poll() is None:
                process.terminate()
        psutil.wait_procs(ours, timeout=60)
        left = [one for one in self.belonging() if one.pid not in (self._pid("redis"), self._pid("s3"))]
        return list(psutil.wait_procs(left, timeout=10)[1])

    def errors(self) -> Counter[str]:
        """Count what the logs call an error, by what it says, and tracebacks."""
        found: Counter[str] = Counter()
        for path in sorted(self.area.glob("*.log")):
            for line in path.read_text(errors="replace").splitlines():
                if '"level": "error"' in line:
                    found[f"{path.stem}: {json.loads(line)['event']}"] += 1
                elif line.startswith("Traceback"):
                    found[f"{path.stem}: traceback"] += 1
        return found

    def _pid(self, name: str) -> int:
        return int(self._processes[name].pid)

    def _begin(self, name: str) -> None:
        self._starts_at.pop(name, None)
        command, variables = self._command(name)
        self._processes[name] = self._starter.start(name, command, **variables)

    def _command(self, name: str) -> tuple[Sequence[str], Mapping[str, str]]:
        """Give what to run, and what its environment has beside the common one."""
        if name == "redis":
            where = ["--port", str(self._ports["redis"]), "--bind", "127.0.0.1", "--dir", str(self.area / "redis")]
            durable = ["--save", "", "--appendonly", "yes", "--appendfsync", "always"]
            return [redis_executable(), *where, *durable], {}
        if name == "s3":
            tests = ROOT / "tests" / "s3"
            python = subprocess.run(
                [sys.executable, tests / "install.py"], stdout=subprocess.PIPE, text=True, check=True
            )
            server = [python.stdout.strip(), str(tests / "server.py"), str(self.area / "s3"), str(self._ports["s3"])]
            return server, {}
        command = {**dict.fromkeys(KEEPERS, "keeper"), **dict.fromkeys(LAUNCHERS, "worker")}.get(name, name)
        variables = {"MODEL": str(self._model)} if name == "launcher-gpu" else {}
        if name in self.machines:
            variables["TMPDIR"] = str(self.machines[name].folder)
        return [sys.executable, *self._server, command], variables

    def _make_bucket(self) -> None:
        client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self._ports['s3']}",
            aws_access_key_id="test:tester",
            aws_secret_access_key="testing",
            region_name="us-east-1",
        )
        deadline = time.monotonic() + HOUSE_PATIENCE
        while not answers(f"http://127.0.0.1:{self._ports['s3']}/healthcheck"):
            assert time.monotonic() < deadline, "the S3 server does not start"
            time.sleep(0.1)
        client.create_bucket(Bucket="chaos")
        client.close()

    def _kill_all(self) -> None:
        for process in self._processes.values():
            if process.poll() is None:
                process.kill()
            process.wait(10)
        for left in self.belonging():
            left.kill()


def below(process: psutil.Process) -> list[psutil.Process]:
    """List the children of a process; none when it has ended."""
    try:
        return list(process.children())
    except psutil.NoSuchProcess:
        return []


def has(process: psutil.Process, word: str) -> bool:
    """Tell whether a live process has this word in its command line."""
    try:
        return word in process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return False


def families(process: psutil.Process) -> Iterator[psutil.Process]:
    """Yield a process and all below it."""
    yield process
    for child in below(process):
        yield from families(child)


def _environment(pid: int) -> bytes:
    """Read the environment that a process was started with; nothing for one that has ended or is another user's."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""
