"""Runs docker-compose.yml's own services from their images with Podman, and shows that they do what they should.

    docker/try.sh        builds the images and runs this

Redis and the S3 server are stand-ins (docker/try/Dockerfile); Prometheus, Grafana and the GPU worker are left out. All
containers share one network without a way out, where every name is the same loopback address. RUN_OPTIONS are added
to every `podman run`.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from compose import PREFIX, ROOT, clear, podman, run_options, services

STAND_IN = "localhost/inbetween-stand-ins"
OURS = ("api", "keeper", "webhooks", "worker-cpu")
CALLER = "/try/caller.py"
PATIENCE = 300.0
VALUES = {
    "REDIS_PASSWORD": "of-the-trial",
    "STORAGE_ACCESS_KEY": "test:tester",
    "STORAGE_SECRET_KEY": "testing",
    "GARAGE_RPC_SECRET": "-",
    "GRAFANA_PASSWORD": "-",
    "DRAIN_GRACE": "300",
    "STOP_GRACE_PERIOD": "330s",
    "WORKER_TMP": "1g",
    "LOG_FORMAT": "json",
}
FLOW = {"method": "flow", "frames": 9, "width": 320, "height": 192}
MODEL = {"method": "mpd", "frames": 8, "width": 64, "height": 64, "steps": 8}
LONG = {**MODEL, "steps": 40}


class Containers:
    """The containers of one run."""

    def __init__(self, env_file: Path, hosts: Path) -> None:
        self._services = services(VALUES)
        for name in OURS:
            self._services[name]["environment"]["STORAGE_REGION"] = "us-east-1"  # the stand-in's
        self._env_file = env_file
        self._extra = [*shlex.split(os.environ.get("RUN_OPTIONS", "")), f"--volume={hosts}:/etc/hosts:ro"]
        self.key = ""

    def start_stand_ins(self) -> None:
        redis = self._services["redis"]
        command = ["redis-server", *redis["command"][1:], "--dir", "/data"]
        safe = [option for option in run_options("redis", redis, None) if not option.startswith("--user")]
        self._podman_run([*safe, "--user=redis", "--network=none"], STAND_IN, command)
        self._podman_run(
            [f"--name={PREFIX}storage", f"--volume={PREFIX}storage:/data", self._beside()],
            STAND_IN,
            ["/usr/bin/tini", "--", "/swift/bin/python", "/swift/server.py", "/data", "3900"],
        )
        wait("the storage", lambda: "http://" in self.log("storage"))
        wait("Redis", lambda: podman("healthcheck", "run", f"{PREFIX}redis", check=False).returncode == 0)

    def start(self, name: str) -> float:
        """Start a service and return the seconds until it is healthy."""
        service = self._services[name]
        began = time.monotonic()
        self._podman_run(
            [*run_options(name, service, self._env_file), self._beside()], self._image(name), service["command"]
        )
        wait(name, lambda: self._healthy(name))
        return time.monotonic() - began

    def _healthy(self, name: str) -> bool:
        if podman("inspect", "--format={{.State.Running}}", PREFIX + name).stdout.strip() != "true":
            raise SystemExit(f"{name} has ended")
        return podman("healthcheck", "run", PREFIX + name, check=False).returncode == 0

    def once(self, *command: str) -> str:
        """Run a command as `docker compose run --rm api COMMAND` does, and give what it prints."""
        options = ["--rm", *run_options("once", self._services["api"], self._env_file), self._beside()]
        return podman("run", *self._extra, *options, self._image("api"), *command).stdout

    def inside(self, name: str, *command: str, check: bool = True, **variables: str) -> str:
        options = [f"--env={key}={value}" for key, value in variables.items()]
        return podman("exec", *options, PREFIX + name, *command, check=check).stdout.strip()

    def call(self, *arguments: str) -> str:
        return self.inside("api", "python", CALLER, *arguments, INBETWEEN_API_KEY=self.key)

    def make_bucket(self) -> None:
        script = (
            "import boto3, os, time\n"
            "from service.settings import ServiceSettings\n"
            "from service.storage import open_storage\n"
            "storage = open_storage(ServiceSettings(), None)\n"
            "storage._client.create_bucket(Bucket=storage.bucket)\n"
        )
        options = ["--rm", *run_options("bucket", self._services["api"], self._env_file), self._beside()]
        podman("run", *self._extra, *options, "--entrypoint=python", self._image("api"), "-c", script)

    def stop(self, name: str) -> tuple[float, int]:
        """Stop a service as `docker compose stop` does. Returns the seconds it took and the exit code."""
        began = time.monotonic()
        podman("stop", PREFIX + name)
        seconds = time.monotonic() - began
        return seconds, int(podman("inspect", "--format={{.State.ExitCode}}", PREFIX + name).stdout)

    def log(self, name: str) -> str:
        done = podman("logs", PREFIX + name, check=False)
        return done.stdout + done.stderr

    def _image(self, name: str) -> str:
        return f"localhost/inbetween-{'worker' if name.startswith('worker') else 'api'}"

    def _beside(self) -> str:
        return f"--network=container:{PREFIX}redis"

    def _podman_run(self, options: list[str], image: str, command: list[str]) -> None:
        mounts = [f"--volume={ROOT}/docker/try:/try:ro", f"--volume={ROOT}/examples/keyframes:/keyframes:ro"]
        podman("run", "--detach", *self._extra, *options, *mounts, image, *command)


def main() -> None:
    clear([*OURS, "once", "bucket", "storage", "redis"])
    with tempfile.TemporaryDirectory() as folder:
        env_file = Path(folder) / "env"
        env_file.write_text("".join(f"{name}={value}\n" for name, value in VALUES.items()))
        hosts = Path(folder) / "hosts"
        hosts.write_text("127.0.0.1 localhost redis storage api\n")
        house = Containers(env_file, hosts)
        try:
            prove(house)
        except BaseException:
            for name in OURS:
                print(f"--- {name}\n{house.log(name)[-2000:]}", file=sys.stderr)
            raise
        finally:
            clear([*OURS, "once", "bucket", "storage", "redis"])


def prove(house: Containers) -> None:
    for name in ("api", "worker"):
        size = int(podman("image", "inspect", "--format={{.Size}}", f"localhost/inbetween-{name}").stdout)
        say(f"image {name}", f"{size / 1e6:.0f} MB")
        strangers = installed(f"localhost/inbetween-{name}") - pinned()
        expect(f"image {name}: every package is at its pinned version {strangers or ''}", not strangers)
    house.start_stand_ins()
    house.make_bucket()
    house.key = house.once("keys", "create", "trial").split("Bearer ")[1].split("`")[0]
    for name in OURS:
        say(f"{name} healthy after", f"{house.start(name):.1f} s")
    for name in OURS:
        user = house.inside(name, "id", "-u")
        first = house.inside(name, "cat", "/proc/1/comm")
        root = house.inside(name, "sh", "-c", "touch /app/x 2>&1 || true")
        expect(f"{name} is user {user} under {first}, / is read-only", user != "0" and "Read-only" in root)
        expect(f"{name} has tini as its first process", first == "tini")
    for options in (FLOW, MODEL):
        story = json.loads(house.call("/keyframes/start.jpg", "/keyframes/end.jpg", json.dumps(options)))
        expect(f"{options['method']}: {story}", story["state"] == "succeeded")
    drain(house)
    for name in ("keeper", "webhooks", "api"):
        seconds, code = house.stop(name)
        expect(f"{name} ends in {seconds:.1f} s with code {code}", code in (0, 143))


def installed(image: str) -> set[str]:
    """List an image's packages but our own, as NAME==VERSION in small letters, without a build's label such as +cpu."""
    script = (
        "from importlib.metadata import distributions\n"
        "for each in distributions(): print(each.metadata['Name'] + '==' + each.version.partition('+')[0])"
    )
    options = ["--rm", "--network=none", *shlex.split(os.environ.get("RUN_OPTIONS", "")), "--entrypoint=python"]
    lines = podman("run", *options, image, "-c", script).stdout.split()
    return {line.lower().replace("_", "-") for line in lines if not line.startswith("inbetween==")}


def pinned() -> set[str]:
    files = ("constraints.txt", "docker/python.txt", "docker/cuda.txt")
    lines = [line for name in files for line in (ROOT / name).read_text().splitlines()]
    return {line.lower().replace("_", "-") for line in lines if "==" in line}


def drain(house: Containers) -> None:
    """Show that a worker told to end ends its job first, and that one killed in the middle of a job loses none."""
    job = house.call("--started", "/keyframes/start.jpg", "/keyframes/end.jpg", json.dumps(LONG))
    seconds, code = house.stop("worker-cpu")
    story = json.loads(house.call("--wait", job))
    expect(f"SIGTERM: the job ends first: {story}", story["state"] == "succeeded" and story["attempt"] == 1)
    expect(f"worker-cpu drains in {seconds:.1f} s with code {code}", code == 0)
    podman("rm", PREFIX + "worker-cpu")
    house.start("worker-cpu")
    job = house.call("--started", "/keyframes/start.jpg", "/keyframes/end.jpg", json.dumps(LONG))
    podman("kill", "--signal=KILL", PREFIX + "worker-cpu")
    podman("rm", "--force", PREFIX + "worker-cpu")
    house.start("worker-cpu")
    again = json.loads(house.call("--wait", job))
    expect(
        f"SIGKILL: another attempt makes the video: {again}", again["state"] == "succeeded" and again["attempt"] == 2
    )
    house.stop("worker-cpu")


def wait(name: str, answers: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not answers():
        if time.monotonic() > deadline:
            raise SystemExit(f"{name} does not answer")
        time.sleep(0.2)


def say(what: str, value: Any) -> None:
    print(f"{what}: {value}", flush=True)


def expect(what: str, holds: bool) -> None:
    say("ok" if holds else "NOT SO", what)
    if not holds:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
