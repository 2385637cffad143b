"""Stock RQ carries our jobs: a worker nobody changed runs the task by its name, in the order of priorities."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import redis

from service.jobs.record import NewJob, State
from service.jobs.store import Jobs
from service.settings import ServiceSettings

TASKS = """
import os, redis
from service.jobs.record import JobError
from service.jobs.store import Jobs
from service.settings import ServiceSettings

def run(job_id, attempt):
    settings = ServiceSettings(_env_file=None)
    with redis.Redis.from_url(settings.redis_url) as connection:
        jobs = Jobs(connection, settings)
        try:
            jobs.start(job_id, attempt, f"horse-{os.getpid()}")
        except JobError:
            return
        connection.rpush("ran", f"{job_id}-{attempt}")
        jobs.succeed(job_id, attempt, {"files": []})
"""


def test_a_stock_worker_runs_what_is_enqueued(redis_url: str, tmp_path: Path) -> None:
    (tmp_path / "worker").mkdir()
    (tmp_path / "worker" / "__init__.py").touch()
    (tmp_path / "worker" / "tasks.py").write_text(TASKS)
    settings = ServiceSettings(_env_file=None, redis_url=redis_url)
    with redis.Redis.from_url(redis_url) as connection:
        jobs = Jobs(connection, settings)

        def submit(priority: str) -> str:
            fields = {"owner": "ann", "options": {}, "keyframes": [], "lane": "gpu", "result_ttl": 600}
            return jobs.submit(NewJob(**fields, priority=priority)).id  # type: ignore[arg-type]

        low, first, canceled, moved, high = (submit(name) for name in ("low", "default", "default", "default", "high"))
        jobs.cancel(canceled)
        jobs.requeue(moved, 1)  # its first ticket is still in the list, and must do nothing

        command = [str(Path(sys.executable).parent / "rq"), "worker", "--burst", "--url", redis_url]
        command += ["--serializer", "rq.serializers.JSONSerializer", *settings.queues["gpu"]]
        environment = {"PYTHONPATH": f"{tmp_path}:{Path.cwd()}", "REDIS_URL": redis_url, "PATH": "/usr/bin:/bin"}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        ran = [ticket.decode() for ticket in connection.lrange("ran", 0, -1)]
        assert ran == [f"{high}-1", f"{moved}-2", f"{first}-1", f"{low}-1"], done.stderr
        ended = jobs.get_many([high, moved, first, low, canceled])
        assert [job.state for job in ended] == [State.succeeded] * 4 + [State.canceled]
        assert connection.keys("rq:job:*") == [], "RQ keeps nothing of what it carried"
