"""One stock RQ worker: `python -m worker.listener [--scheduler] QUEUE…`, highest priority first.

Adds to RQ only that its work-horses and its scheduler die with it, and that what a job needs is imported before the
fork, so that a work-horse starts in milliseconds.
"""

from __future__ import annotations

import importlib
import sys

import redis
from rq import Worker
from rq.serializers import JSONSerializer

from service import logs
from worker import exits, lifeline

TASKS = ("worker.tasks", "worker.deliveries")


def main(arguments: list[str]) -> int:
    """Work until SIGTERM; a job at hand is finished first."""
    settings = exits.settings()
    logs.configure(settings)
    lifeline.bind_forks()
    queues = [argument for argument in arguments if argument != "--scheduler"]
    for module in TASKS:
        importlib.import_module(module)
    exits.need_redis(settings).close()
    # RQ sets the time-out that its blocking reads need, on a connection that has not been used yet.
    worker = Worker(queues, connection=redis.Redis.from_url(settings.redis_url), serializer=JSONSerializer)
    worker.work(logging_level="WARNING", with_scheduler="--scheduler" in arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
