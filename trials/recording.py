"""What a version leaves in Redis and storage, kept in a file, so that a later one can be tried on it.

    python -m trials.recording tests/service/recorded/redis-0.1.0.json

Starts API, keeper and a worker for real, has them do one job of each kind, kills them in the middle, and writes all
that is there then down as JSON. Times are moved to the present when a recording is played.
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import redis

from service.jobs.record import NewJob
from service.jobs.store import Jobs
from service.settings import ServiceSettings
from service.storage import Storage, open_storage
from trials.pictures import photo
from trials.processes import Processes
from trials.servers import RedisProcess, free_port

Recording = dict[str, Any]
NAMESPACE = "recorded"
_TIME = re.compile(r"(?<![\w.])(\d{10}|\d{13})(?=[.\-\s,\"}\]]|$)")
"""Seconds or milliseconds since 1970, within a text."""
_YEAR = 31_536_000


def main() -> int:
    """Record the version that is installed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="where the recording goes")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="recording-") as folder:
        area = Path(folder)
        server = RedisProcess(area)
        server.start()
        try:
            found = _record(server.url, area)
        finally:
            server.kill()
    chosen.file.write_text(json.dumps(found, indent=1, ensure_ascii=False, sort_keys=True) + "\n")
    return 0


def take(connection: Any, storage: Storage) -> Recording:
    """Take down every key of Redis with its type, value and remaining time, and every file."""
    keys = {}
    for name in sorted(connection.scan_iter("*")):
        keys[name.decode()] = {"type": connection.type(name).decode(), "pttl": connection.pttl(name)} | {
            "value": _read(connection, name)
        }
    files = {name: base64.b64encode(storage.get(name)).decode() for name in storage.list("")}
    return {"version": version("inbetween"), "at": time.time(), "keys": keys, "files": files}


def play(recording: Recording, connection: redis.Redis, storage: Storage) -> None:
    """Put back what was recorded, as if it had been written just now."""
    shift = round(time.time() - recording["at"])
    for name, key in recording["keys"].items():
        _write(connection, name, key["type"], _moved(key["value"], recording["at"], shift))
        if key["pttl"] > 0:
            connection.pexpire(name, key["pttl"])
    for name, content in recording["files"].items():
        storage.put(name, base64.b64decode(content), "application/octet-stream")


def _record(url: str, area: Path) -> Recording:
    variables = {
        "REDIS_URL": url,
        "NAMESPACE": NAMESPACE,
        "STORAGE_URL": str(area / "storage"),
        "PORT": str(free_port()),
        "AUTH": "off",
        "MODEL": "",
        "RIFE": "off",
        "OMP_NUM_THREADS": "1",
        "WORKERS_PER_ENGINE": "1",
        "WEBHOOK_WORKERS": "1",
        "FETCH_ALLOW_HOSTS": "127.0.0.1",
    }
    settings = ServiceSettings.model_validate({name.lower(): value for name, value in variables.items()})
    api = f"http://127.0.0.1:{variables['PORT']}"
    with Processes(area, variables) as processes, httpx.Client(base_url=api, timeout=60, trust_env=False) as client:
        processes.start("api")
        processes.until_ready(api)
        processes.start("keeper")
        processes.start("worker")
        with redis.Redis.from_url(url) as connection:
            _leave(client, Jobs(connection, settings))
            processes.close()
            return take(connection, open_storage(settings, connection))


def _leave(client: httpx.Client, jobs: Jobs) -> None:
    """Leave one job of each kind, a claim of a request, and a webhook that has not reached its receiver."""

    def submit(reference: str, key: str = "", **options: Any) -> str:
        asked = json.dumps({"method": "flow", "frames": 3, "reference": reference, **options})
        headers = {"Idempotency-Key": key} if key else {}
        files = {"start": photo(), "end": photo(colour="teal")}
        answer = client.post("/inbetween", files=files, data={"options": asked}, headers=headers)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def until(job_id: str, state: str) -> None:
        while client.get(f"/inbetween/{job_id}").json()["state"] != state:
            time.sleep(0.05)

    # A closed port: the event stays on its way.
    hook = {"webhook": {"url": f"http://127.0.0.1:{free_port()}/hook"}}
    done = submit("succeeded", key="a-key", result_ttl=_YEAR, **hook)
    until(done, "succeeded")
    while not any(one["log"] for one in client.get("/webhooks/deliveries").json()["deliveries"]):
        time.sleep(0.05)
    gone = jobs.submit(NewJob("local", {"method": "flow", "reference": "expired"}, [], "cpu", result_ttl=0)).id
    jobs.cancel(gone)
    jobs.expire(gone)
    # No engine has a model, so these stay.
    submit("queued", method="mpd-vibid", seeds=[7, 8], gamma=0.3)
    running = submit("running", method="mpd", steps=10)
    jobs.start(running, 1, "a-worker")
    jobs.progress(running, 1, {"stage": "sampling", "step": 3, "steps": 10, "take": 1, "takes": 1})
    canceled = submit("canceled", method="trf")
    client.post(f"/inbetween/{canceled}/cancel").raise_for_status()
    client.post("/uploads", json={"content_type": "image/png", "size": 100}).raise_for_status()


def _read(connection: Any, name: bytes) -> Any:
    kind = connection.type(name)
    if kind == b"string":
        return _text(connection.get(name))
    if kind == b"hash":
        return {_text(field): _text(value) for field, value in connection.hgetall(name).items()}
    if kind == b"zset":
        return {_text(member): repr(score) for member, score in connection.zrange(name, 0, -1, withscores=True)}
    if kind == b"set":
        return sorted(_text(member) for member in connection.smembers(name))
    if kind == b"list":
        return [_text(item) for item in connection.lrange(name, 0, -1)]
    assert kind == b"stream", kind
    return [
        [_text(entry), {_text(f): _text(v) for f, v in fields.items()}] for entry, fields in connection.xrange(name)
    ]


def _write(connection: Any, name: str, kind: str, value: Any) -> None:
    if kind == "string":
        connection.set(name, _bytes(value))
    elif kind == "hash":
        connection.hset(name, mapping={_bytes(field): _bytes(part) for field, part in value.items()})
    elif kind == "zset":
        connection.zadd(name, {_bytes(member): float(score) for member, score in value.items()})
    elif kind == "set":
        connection.sadd(name, *map(_bytes, value))
    elif kind == "list":
        connection.rpush(name, *map(_bytes, value))
    else:
        for entry, fields in value:
            connection.xadd(name, {_bytes(f): _bytes(v) for f, v in fields.items()}, id=entry)


def _text(value: bytes) -> str:
    """Write bytes as text; what is none, such as RQ's compressed calls, in base64 behind a mark."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return "base64:" + base64.b64encode(value).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text[7:]) if text.startswith("base64:") else text.encode()


def _moved(value: Any, at: float, shift: int) -> Any:
    """Move every time by so many seconds, wherever it stands. A time is a number within two years of `at`."""
    if isinstance(value, dict):
        return {_moved(name, at, shift): _moved(part, at, shift) for name, part in value.items()}
    if isinstance(value, list):
        return [_moved(part, at, shift) for part in value]

    def later(match: re.Match[str]) -> str:
        unit = 1 if len(match[1]) == 10 else 1000
        number = int(match[1])
        return str(number + shift * unit) if abs(number / unit - at) < 2 * _YEAR else match[1]

    return _TIME.sub(later, value)


if __name__ == "__main__":
    sys.exit(main())
