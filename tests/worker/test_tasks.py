"""One attempt of a job while storage fails: it is kept, tried on, and given back only when the outage lasts."""

from __future__ import annotations

import errno
import hashlib
import io
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
from PIL import Image
from rq.utils import import_attribute
from structlog.testing import capture_logs

from mpd import flow
from mpd.methods import METHODS, SettingsError
from mpd.photographs import KeyframeError
from mpd.progress import MotionReport, Progress, Take
from service import machine
from service.fleet import engines
from service.fleet.engines import ENGINE_ID, Engine, EngineState
from service.jobs.record import Job, Lane, NewJob, State, files_prefix, new_id
from service.jobs.store import Jobs
from service.jobs.tickets import TASK
from service.settings import ServiceSettings
from service.storage import LocalStorage, StorageFull, StorageUnavailable
from service.webhooks import deliveries as sending
from worker import deliveries, tasks
from worker.process import fitness, parent_death
from worker.process.fitness import LAUNCHER_FD, Pipe
from worker.task import retrying
from worker.task.lease import Lease

SECRET = b"k" * 32


class Away(LocalStorage):
    """A local folder that does not answer while `outages` lasts: one fewer for each call."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, lambda: SECRET)
        self.outages = 0
        self.calls = 0
        self.error = StorageUnavailable("away")

    def _answer(self) -> None:
        self.calls += 1
        if self.outages:
            self.outages -= 1
            raise self.error

    def get(self, key: str) -> bytes:
        self._answer()
        return super().get(key)

    def put(self, key: str, source: bytes | Path, content_type: str) -> None:
        self._answer()
        super().put(key, source, content_type)


@pytest.fixture
def jobs(redis_url: str) -> Iterator[Jobs]:
    with redis.Redis.from_url(redis_url) as connection:
        yield Jobs(connection, ServiceSettings(_env_file=None, lease_ttl=2.0))


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Away:
    """What every attempt of the test opens."""
    away = Away(tmp_path)
    monkeypatch.setattr(tasks, "open_storage", lambda *_: away)
    return away


def submit(jobs: Jobs, storage: Away, method: str = "flow", keyframes: int = 2) -> Job:
    job_id = new_id()
    sent: list[dict[str, Any]] = []
    for number, colour in enumerate(("navy", "teal", "olive")[:keyframes]):
        buffer = io.BytesIO()
        Image.new("RGB", (48, 32), colour).save(buffer, "PNG")
        key = f"{files_prefix(job_id)}keyframes/{number}"
        storage.put(key, buffer.getvalue(), "image/png")
        digest = hashlib.sha256(buffer.getvalue()).hexdigest()
        sent.append({"key": key, "content_type": "image/png", "sha256": digest, "size": buffer.tell()})
    options = {"method": method, "formats": ["mp4"], "frames": 3}
    lane: Lane = "gpu" if METHODS[method].needs_model else "cpu"
    return jobs.submit(NewJob("local", options, sent, lane, result_ttl=600, id=job_id))


def test_a_video_longer_than_a_worker_can_hold_fails_before_it_is_begun(jobs: Jobs, storage: Away) -> None:
    # The API may take it: while no engine is ready, it does not know the size of the frames.
    jobs = Jobs(jobs.redis, jobs.settings.model_copy(update={"max_video_pixels": 3 * 48 * 32 - 1}))
    after = attempt(jobs, submit(jobs, storage))
    assert (after.state, after.attempt) == (State.failed, 1)
    assert after.error is not None
    assert (after.error["type"], after.error["field"]) == ("/problems/beyond-capacity", "options.frames")


def attempt(jobs: Jobs, job: Job) -> Job:
    """What a work-horse does with the job; the record afterwards."""
    started = jobs.start(job.id, job.attempt, "test-1")
    with Lease(jobs, job.id, job.attempt) as lease:
        tasks.settle(started, jobs, lease)
    after = jobs.get(job.id)
    assert after is not None
    return after


@pytest.mark.parametrize("dissolved", [0.4, 0.75])
def test_a_result_tells_how_far_its_motion_is_to_be_believed(
    jobs: Jobs, storage: Away, monkeypatch: pytest.MonkeyPatch, dissolved: float
) -> None:
    report = MotionReport(trusted=0.25, dissolved=dissolved, largest=3.5, says="Most of it is dissolved.")
    motions = report, replace(report, trusted=0.5)
    generate = flow.generate

    def measured(*given: Any) -> Iterator[Progress | Take]:
        for event in generate(*given):
            yield replace(event, motions=motions) if isinstance(event, Take) else event

    monkeypatch.setattr(flow, "generate", measured)
    result = attempt(jobs, submit(jobs, storage, keyframes=3)).result
    assert result is not None
    assert result["motion"] == {"trusted": 0.25, "dissolved": dissolved, "largest": 3.5, "says": report.says}
    told = [f"Keyframes 1 and 2: {report.says}", f"Keyframes 2 and 3: {report.says}"]
    assert result["warnings"] == (told if dissolved > 0.5 else [])


def test_an_attempt_sits_out_an_outage_of_storage(jobs: Jobs, storage: Away) -> None:
    job = submit(jobs, storage)
    storage.outages = 3
    after = attempt(jobs, job)
    assert storage.outages == 0
    assert (after.state, after.attempt) == (State.succeeded, 1)


def test_a_lasting_outage_gives_the_job_back_once_and_at_no_cost(
    jobs: Jobs, storage: Away, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrying, "STORAGE_PATIENCE", 0.5)
    job = submit(jobs, storage)
    storage.calls, storage.outages = 0, 1_000_000
    after = attempt(jobs, job)
    assert storage.calls > 1
    assert (after.state, after.attempt, after.deaths, after.errors) == (State.queued, 2, 0, 0)


@pytest.mark.parametrize("room", [True, False])
def test_a_full_storage_is_a_clear_failure_unless_room_is_made_soon(
    jobs: Jobs, storage: Away, monkeypatch: pytest.MonkeyPatch, room: bool
) -> None:
    if not room:
        monkeypatch.setattr(retrying, "FULL_PATIENCE", 0.2)
    job = submit(jobs, storage)
    monkeypatch.setattr(Away, "get", LocalStorage.get)
    storage.error, storage.outages = StorageFull("no space left"), 2 if room else 1_000_000
    after = attempt(jobs, job)
    if room:
        assert (after.state, after.attempt) == (State.succeeded, 1)
        return
    assert (after.state, after.attempt) == (State.failed, 1)
    assert after.error is not None
    assert after.error["type"] == "/problems/storage-full"
    assert not any(key.startswith(f"{files_prefix(job.id)}1/") for key in storage.list(""))


def test_a_result_that_comes_after_its_job_was_deleted_and_erased_is_erased_too(
    redis_url: str, jobs: Jobs, storage: Away, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a work-horse that was stopped before its last file, for longer than the keeper waits."""
    monkeypatch.setattr(parent_death, "die_with_parent", lambda _: None)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setenv("REDIS_URL", redis_url)
    job = submit(jobs, storage)
    put = storage.put

    def late(key: str, source: bytes | Path, content_type: str) -> None:
        if key.endswith("manifest.json"):
            jobs.delete(job.id)
            storage.delete_prefix(files_prefix(job.id))
            jobs.redis.delete(jobs.keys.erasures)
        put(key, source, content_type)

    monkeypatch.setattr(storage, "put", late)
    tasks.run(job.id, job.attempt)
    assert list(storage.list(files_prefix(job.id))) == [f"{files_prefix(job.id)}1/manifest.json"]
    assert jobs.redis.zscore(jobs.keys.erasures, job.id) is not None


def test_files_of_a_job_stay_that_redis_only_knows_as_a_request(
    redis_url: str, jobs: Jobs, storage: Away, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a Redis that is some seconds older than it was: the copy fell between the files and the job."""
    monkeypatch.setattr(parent_death, "die_with_parent", lambda _: None)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setenv("REDIS_URL", redis_url)
    job = submit(jobs, storage)
    put = storage.put

    def older(key: str, source: bytes | Path, content_type: str) -> None:
        if key.endswith("manifest.json"):
            jobs.redis.delete(jobs.keys.job(job.id), jobs.keys.events(job.id))
            jobs.reserve_files(job.id, 3600)
        put(key, source, content_type)

    monkeypatch.setattr(storage, "put", older)
    tasks.run(job.id, job.attempt)
    due = jobs.redis.zscore(jobs.keys.erasures, job.id)
    assert due is not None
    assert due > jobs.now() + 3000
    assert all(keyframe["key"] in list(storage.list(files_prefix(job.id))) for keyframe in job.keyframes)


def test_a_job_waiting_for_storage_can_be_canceled(jobs: Jobs, storage: Away, monkeypatch: pytest.MonkeyPatch) -> None:
    job = submit(jobs, storage)
    storage.outages = 1_000_000
    waits: list[float] = []
    sleep = Lease.wait

    def wait(lease: Lease, seconds: float) -> None:
        waits.append(seconds)
        jobs.cancel(job.id)
        sleep(lease, 600)

    monkeypatch.setattr(Lease, "wait", wait)
    assert attempt(jobs, job).state is State.canceled
    assert 1 <= len(waits) <= len(job.keyframes), "each waits once, or hears of the end before"


def test_a_keyframe_that_cannot_be_had_ends_the_fetching_of_all(
    jobs: Jobs, storage: Away, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "_FETCHES", 1)
    job = submit(jobs, storage)
    storage.delete(job.keyframes[0]["key"])
    monkeypatch.setattr(retrying, "DAMAGE_PATIENCE", 0)
    storage.calls = 0
    after = attempt(jobs, job)
    assert after.error is not None
    assert (after.state, after.error["type"]) == (State.failed, "/problems/keyframe-lost")
    assert storage.calls == 1


FAULTS: dict[str, Callable[[], Exception]] = {
    "disk": lambda: OSError(errno.ENOSPC, "No space left on device", "/private/tmp/take-1.mp4"),
    "descriptors": lambda: OSError(errno.EMFILE, "Too many open files", "/private/tmp"),
    "read-only": lambda: OSError(errno.EROFS, "Read-only file system", "/private/tmp"),
    "memory": MemoryError,
    "threads": lambda: RuntimeError("can't start new thread"),
}


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipe]:
    """Where this work-horse says that the machine failed."""
    pipe = Pipe()
    monkeypatch.setenv(LAUNCHER_FD, str(pipe.writable))
    yield pipe
    pipe.close()


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("place", ["fetching", "encoding"])
def test_a_fault_of_the_machine_costs_the_job_nothing(
    jobs: Jobs, storage: Away, pipe: Pipe, monkeypatch: pytest.MonkeyPatch, kind: str, place: str
) -> None:
    def failing(*_: object, **__: object) -> Any:
        raise FAULTS[kind]()

    def misread(*_: object) -> Any:
        try:
            failing()
        except Exception as error:
            raise KeyframeError("The file is damaged.", "Send another.") from error

    if place == "fetching":
        monkeypatch.setattr("mpd.photographs.load", misread)
    else:
        monkeypatch.setattr("mpd.output.video.encode", failing)
    job = submit(jobs, storage)
    monkeypatch.setattr(machine, "trouble", lambda: "no room")
    for number in range(1, 6):
        with capture_logs() as logged:
            job = attempt(jobs, job)
        assert (job.state, job.attempt, job.deaths, job.errors) == (State.queued, number + 1, 0, 0)
        assert [entry["event"] for entry in logged if entry["log_level"] == "error"] == ["the machine failed"]
        assert len(pipe.taken()) == 1
    # The machine is well: then it is the job that wants more, and nobody else is there to try it.
    monkeypatch.setattr(machine, "trouble", lambda: None)
    for _ in range(3):
        assert job.state is State.queued
        job = attempt(jobs, job)
    assert (job.state, job.faults) == (State.failed, {fitness.worker_name(): 3})
    assert job.error is not None
    assert job.error["type"] == "/problems/machines-exhausted"
    assert "/private" not in str(job.error)


def test_no_path_of_the_machine_is_told_to_a_caller(jobs: Jobs, storage: Away, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object, **__: object) -> Any:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "/private/tmp/take-1.mp4")

    monkeypatch.setattr("mpd.output.video.encode", failing)
    job = attempt(jobs, attempt(jobs, submit(jobs, storage)))
    assert (job.state, job.errors) == (State.failed, 2)
    assert job.error is not None
    assert (job.error["type"], job.error["detail"]) == (
        "/problems/generation-failed",
        "FileNotFoundError in the worker.",
    )


def test_storage_is_not_waited_for_by_a_process_without_descriptors(jobs: Jobs, storage: Away, pipe: Pipe) -> None:
    job = submit(jobs, storage)
    storage.error = StorageUnavailable("does not answer")
    storage.error.__cause__ = OSError(errno.EMFILE, "Too many open files")
    storage.calls, storage.outages = 0, 1_000_000
    assert attempt(jobs, job).state is State.queued
    assert pipe.taken() == ["Too many open files"]


def another(data: bytes) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (48, 32), "lime").save(buffer, "PNG")
    return buffer.getvalue()


DAMAGE: dict[str, Callable[[bytes], bytes | None]] = {
    "another": another,
    "torn": lambda data: data[:60],
    "page": lambda data: b"<html>Log in first</html>",
    "gone": lambda data: None,
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("lasting", [True, False])
def test_no_video_is_made_of_another_keyframe_than_the_accepted_one(
    jobs: Jobs, storage: Away, monkeypatch: pytest.MonkeyPatch, damage: str, lasting: bool
) -> None:
    """It is the storage's fault, which it may mend; set going again, the job then succeeds."""
    job = submit(jobs, storage)
    key = job.keyframes[1]["key"]
    good = storage.get(key)
    storage.delete(key)
    if (bad := DAMAGE[damage](good)) is not None:
        storage.put(key, bad, "image/png")

    def mend() -> None:
        storage.put(key, good, "image/png")

    if lasting:
        monkeypatch.setattr(retrying, "DAMAGE_PATIENCE", 0.2)
        after = attempt(jobs, job)
        assert (after.state, after.attempt, after.deaths, after.quarantined) == (State.failed, 1, 0, False)
        assert after.error is not None
        assert (after.error["status"], after.error["type"]) == (500, "/problems/keyframe-lost")
        assert "field" not in after.error, "no fault of the request"
        assert key not in str(after.error)
        mend()
        assert attempt(jobs, jobs.redrive(job.id)).state is State.succeeded
        return
    sleep = Lease.wait

    def wait(lease: Lease, seconds: float) -> None:
        mend()
        sleep(lease, 0)

    monkeypatch.setattr(Lease, "wait", wait)
    after = attempt(jobs, job)
    assert (after.state, after.attempt) == (State.succeeded, 1)


def test_a_home_that_cannot_be_opened_is_an_outage_too(
    jobs: Jobs, storage: Away, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submit(jobs, storage)
    failures = [StorageUnavailable("no such folder"), StorageUnavailable("no such folder")]

    def open_storage(*_: object) -> Away:
        if failures:
            raise failures.pop()
        return storage

    monkeypatch.setattr(tasks, "open_storage", open_storage)
    after = attempt(jobs, job)
    assert (after.state, after.attempt) == (State.succeeded, 1)


ENGINE = Engine(
    id="here",
    state=EngineState.ready,
    model="svd-xt",
    device="cuda",
    started_at=1.0,
    methods=("mpd",),
    native_frames=8,
    native_size=(64, 64),
    size_multiple=8,
)


@pytest.mark.parametrize(
    ("live", "left"),
    [
        ([ENGINE, replace(ENGINE, id="there")], True),
        ([ENGINE], False),
        ([], False),
        ([replace(ENGINE, id="there", state=EngineState.starting)], False),
        ([replace(ENGINE, id="there", methods=("svd",))], False),
        ([replace(ENGINE, id="there", max_pixels=9)], False),
    ],
    ids=["another can", "none but this", "none", "starting", "without the method", "too small as well"],
)
def test_a_job_that_the_engine_here_refuses_is_left_to_one_that_can(
    jobs: Jobs, storage: Away, monkeypatch: pytest.MonkeyPatch, live: list[Engine], left: bool
) -> None:
    def refused(*_: object) -> None:
        raise SettingsError("width", "64x64 is too large for this GPU", "Use at most 9 pixels")

    monkeypatch.setattr(tasks, "_begin", refused)
    monkeypatch.setattr(tasks, "ELSEWHERE_SECONDS", 0.0)
    monkeypatch.setenv(ENGINE_ID, "here")
    for engine in live:
        engines.publish(jobs.redis, jobs.settings, engine)
    submit(jobs, storage, "mpd")
    after = attempt(jobs, submit(jobs, storage, "mpd"))
    if left:
        assert (after.state, after.attempt, after.deaths, after.errors) == (State.queued, 2, 0, 0)
        assert jobs.tickets.queue("gpu", "default").job_ids[-1] == after.ticket, "others go first"
        assert after.refusals == {"here": 1}
        assert jobs.position(after) == 1
    else:
        assert after.state is State.failed
        assert after.error is not None
        assert (after.error["status"], after.error["field"]) == (422, "options.width")


def test_a_job_that_comes_back_to_an_engine_that_refused_it_is_left_at_once_until_all_have_refused(
    jobs: Jobs, storage: Away, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def refused(*_: object) -> None:
        asked.append(fitness.worker_name())
        raise SettingsError("width", "64x64 is too large for this GPU", "Use at most 9 pixels")

    monkeypatch.setattr(tasks, "_begin", refused)
    monkeypatch.setattr(tasks, "ELSEWHERE_SECONDS", 0.0)
    for engine in (ENGINE, replace(ENGINE, id="there")):
        engines.publish(jobs.redis, jobs.settings, engine)
    job = submit(jobs, storage, "mpd")
    for name in ("here", "here", "there"):
        monkeypatch.setenv(ENGINE_ID, name)
        job = attempt(jobs, job)
    assert asked == ["here", "there"]
    assert job.error is not None
    assert job.error["status"] == 422


def test_a_job_that_uses_what_only_a_newer_release_knows_is_left_to_its_workers(
    jobs: Jobs, storage: Away, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While an upgrade goes on, some of them are there; where none takes it, it fails and says why."""
    monkeypatch.setattr(tasks, "ELSEWHERE_SECONDS", 0.0)
    monkeypatch.setenv(ENGINE_ID, "here")
    known = submit(jobs, storage)
    new = NewJob("local", {**known.options, "tempo": 3}, known.keyframes, "cpu", result_ttl=600)
    left = attempt(jobs, jobs.submit(new))
    assert (left.state, left.attempt, left.errors, left.refusals) == (State.queued, 2, 0, {"here": 1})
    failed = attempt(jobs, left)
    assert failed.state is State.failed
    assert failed.error is not None
    assert (failed.error["status"], failed.error["field"]) == (422, "options.tempo")
    assert attempt(jobs, known).state is State.succeeded


@pytest.mark.parametrize(
    ("name", "function", "queued"),
    [("worker.tasks.run", tasks.run, TASK), ("worker.deliveries.deliver", deliveries.deliver, sending.TASK)],
)
def test_the_names_that_wait_in_queues_stay(name: str, function: Callable[..., Any], queued: str) -> None:
    """Releases run side by side: what one of them has queued another takes."""
    assert import_attribute(name) is function
    assert queued == name
