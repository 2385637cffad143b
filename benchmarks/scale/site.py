"""One Redis and the processes around it, jobs for them, and what Redis says of itself."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

from benchmarks.serving.work import jpeg
from service.jobs.record import Job, NewJob, new_id
from service.jobs.store import Jobs
from service.settings import ServiceSettings
from service.storage import open_storage
from trials.processes import Processes
from trials.servers import RedisProcess, free_port

SITE_PATIENCE = 600.0
LOOK_SECONDS = 0.1


class ScaleSite:
    """A redis-server, a folder, and the settings of processes that use them. A context manager."""

    def __init__(self, area: Path) -> None:
        self.area = area
        (area / "redis").mkdir(parents=True)
        self._server = RedisProcess(area / "redis", "--appendonly", "yes", "--appendfsync", "always")

    def __enter__(self) -> ScaleSite:
        self._server.start()
        self.variables = {
            "REDIS_URL": self._server.url,
            "STORAGE_URL": str(self.area / "storage"),
            "AUTH": "off",
            "MAX_QUEUE": "0",
            "LOG_LEVEL": "warning",
            "OMP_NUM_THREADS": "1",
            "PORT": str(free_port()),
        }
        self.settings = ServiceSettings.model_validate({name.lower(): value for name, value in self.variables.items()})
        self.redis = redis.Redis.from_url(self._server.url)
        self.jobs = Jobs(self.redis, self.settings)
        self.processes = Processes(self.area, self.variables)
        return self

    def __exit__(self, *_: object) -> None:
        self.processes.close()
        self.redis.close()
        self._server.kill()

    def until(self, true: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + SITE_PATIENCE
        while not true():
            time.sleep(LOOK_SECONDS)
            assert time.monotonic() < deadline, f"{what}:\n{self.processes.log()[-3000:]}"

    def commands(self) -> int:
        """Count the commands that Redis has carried out, those of scripts too."""
        return sum(one["calls"] for one in info(self.redis, "commandstats").values())

    def processor(self) -> float:
        """Read the processor seconds that Redis has used."""
        used = info(self.redis, "cpu")
        return float(used["used_cpu_sys"] + used["used_cpu_user"])


def submit(jobs: Jobs, keyframes: list[dict[str, Any]]) -> Job:
    options = {"method": "mpd-vibid", "formats": ["mp4"]}
    return jobs.submit(NewJob("local", options, keyframes, "gpu", result_ttl=3600, id=new_id()))


def keyframes_of(site: ScaleSite) -> list[dict[str, Any]]:
    storage, found = open_storage(site.settings, site.redis), []
    for number, name in enumerate(("start", "end")):
        data, key = jpeg(name), f"keyframes/{number}.jpg"
        storage.put(key, data, "image/jpeg")
        digest = hashlib.sha256(data).hexdigest()
        found.append({"key": key, "content_type": "image/jpeg", "sha256": digest, "size": len(data)})
    return found


def info(connection: redis.Redis, section: str) -> dict[str, Any]:
    found: Any = connection.info(section)
    return dict(found)
