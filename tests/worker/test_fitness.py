"""A worker takes no jobs while its machine is not well: the launcher's judgement, and a real one on a full disk."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from rq import Worker
from rq.serializers import JSONSerializer

from service.fleet import unwell
from service.fleet.engines import ENGINE_ID
from service.jobs.record import Job, NewJob, State
from service.jobs.store import Jobs
from service.settings import ServiceSettings
from trials.processes import LONGEST_WAIT
from trials.site import Site
from worker.process import fitness
from worker.process.fitness import (
    FIRST_PAUSE,
    FORGIVEN_SECONDS,
    LAUNCHER_FD,
    LISTENER_FD,
    LONGEST_PAUSE,
    LOOK_SECONDS,
    Fitness,
)


@pytest.fixture
def jobs(redis_url: str) -> Iterator[Jobs]:
    with redis.Redis.from_url(redis_url) as connection:
        yield Jobs(connection, ServiceSettings(_env_file=None, redis_url=redis_url))


class Machine:
    trouble: str | None = None

    def look(self) -> str | None:
        return self.trouble


def judge(jobs: Jobs, machine: Machine) -> Fitness:
    return Fitness(jobs.settings, jobs.redis, "one", machine.look)


def test_a_machine_that_begins_unwell_takes_jobs_once_it_is_well(jobs: Jobs) -> None:
    machine = Machine()
    machine.trouble = "no room"
    fit = judge(jobs, machine)
    assert not fit.well(0.0)
    assert unwell.count(jobs.redis, jobs.settings.namespace) == 1
    machine.trouble = None
    assert not fit.well(LOOK_SECONDS - 0.1), "it is not looked at all the time"
    assert fit.well(LOOK_SECONDS)
    assert unwell.count(jobs.redis, jobs.settings.namespace) == 0


def test_a_fault_pauses_a_machine_that_seems_well_longer_each_time(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    fit = judge(jobs, Machine())
    monkeypatch.setenv(LAUNCHER_FD, str(fit.pipe.writable))
    now = 1000.0
    assert fit.well(now)
    for pause in (FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE):
        fitness.report("No space left on device")
        assert not fit.well(now)
        assert unwell.count(jobs.redis, jobs.settings.namespace) == 1
        now += pause - 0.1
        assert not fit.well(now)
        now += 0.1
        assert fit.well(now)
    for _ in range(9):
        fitness.report("again")
    assert not fit.well(now)
    now += LONGEST_PAUSE
    assert fit.well(now)
    now += FORGIVEN_SECONDS
    fitness.report("after a long time")
    assert not fit.well(now)
    assert fit.well(now + FIRST_PAUSE)


def test_redis_away_is_no_reason_to_fall(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    machine.trouble = "no room"
    fit = Fitness(jobs.settings, redis.Redis(port=1, retry=Retry(NoBackoff(), 0)), "one", machine.look)
    assert not fit.well(0.0)
    machine.trouble = None
    assert fit.well(LOOK_SECONDS)


def test_what_cannot_be_reported_is_no_fault_of_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LAUNCHER_FD, raising=False)
    monkeypatch.setenv(LISTENER_FD, "9999")
    fitness.report("x")


def test_who_else_could_take_a_job_is_read_from_the_names_of_rqs_workers(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    job: Job = jobs.submit(NewJob("ann", {}, [], "cpu", 600))
    assert fitness.others(jobs, job) == set()
    for launcher, lane in (("one.example-7", "cpu"), ("one.example-7", "cpu"), ("two-8", "cpu"), ("three-9", "gpu")):
        monkeypatch.setenv(ENGINE_ID, launcher)
        queues = [jobs.tickets.queue(lane, priority) for priority in ("high", "default", "low")]
        name = fitness.listener_name()
        Worker(queues, name=name, connection=jobs.redis, serializer=JSONSerializer).register_birth()
    Worker([jobs.tickets.queue("cpu", "default")], name="0a1b", connection=jobs.redis).register_birth()
    monkeypatch.setenv(ENGINE_ID, "one.example-7")
    assert fitness.others(jobs, job) == {"two-8", "0a1b"}


@pytest.fixture
def disk(short_folder: Path) -> Iterator[Path]:
    """A file system of 100 MB for temporary files."""
    folder = short_folder / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=100m", "none", str(folder)]
    subprocess.run(mount, check=True)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.needs("to mount a file system")
def test_a_worker_on_a_full_disk_gives_its_job_back_and_takes_none_until_there_is_room(bare: Site, disk: Path) -> None:
    bare.start("worker", TMPDIR=str(disk))
    # For a ticket that the other worker takes just as it is told to end.
    bare.start("keeper")
    _until(lambda: len(_listening(bare)) == 2)
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    job = bare.submit("flow")
    assert bare.until(job, "state", attempt=2)["deaths"] == 0
    bare.until_said("worker", "the machine is not well, taking no jobs")
    _until(lambda: unwell.count(bare.redis, bare.settings.namespace) == 1)
    _until(lambda: not _listening(bare))
    after = bare.jobs.get(job.id)
    assert after is not None
    assert after.state is State.queued
    assert bare.jobs.counters()["machine_faults_total"] <= 2, "at most once for each worker, and not again and again"
    filler.unlink()
    done = bare.ended(job)
    assert (done.state, done.deaths, done.errors, done.faults) == (State.succeeded, 0, 0, {})
    bare.until_said("worker", "the machine is well again, taking jobs")
    _until(lambda: unwell.count(bare.redis, bare.settings.namespace) == 0)


def _listening(site: Site) -> list[Worker]:
    return Worker.all(queue=site.jobs.tickets.queue("cpu", "default"), serializer=JSONSerializer)


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONGEST_WAIT
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)
