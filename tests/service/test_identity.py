"""Which database Redis is: one that came up empty, older or as another proves nothing, and nothing is done with it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import redis

from server import restore
from service.auth import CALLER
from service.database import identity
from service.database.identity import Database, DatabaseUnknown
from service.jobs.record import Job, NewJob, State, Superseded
from service.jobs.store import Jobs
from service.settings import ServiceSettings
from service.storage import LocalStorage, ObjectDamaged, StorageUnavailable
from service.webhooks.deliveries import Webhooks, announce
from tests.service.conftest import Api, Make, problem
from worker.keeper import Keeper
from worker.listener import Listener
from worker.task.lease import Lease, Reason
from worker.task.retrying import persist

OBJECT = "databases/inbetween.json"
KEY = "inbetween:database"


class Place:
    """A Redis and a storage, and the processes that use both."""

    def __init__(self, connection: redis.Redis, folder: Path) -> None:
        self.redis = connection
        self.settings = ServiceSettings(_env_file=None, storage_url=str(folder), lease_ttl=1)
        self.storage = LocalStorage(folder, lambda: b"secret")
        self.now = 1000.0

    def database(self) -> Database:
        """As another process knows it."""
        return Database(self.redis, self.settings, lambda: self.storage, clock=lambda: self.now)

    def process(self) -> Jobs:
        return Jobs(self.redis, self.settings, self.database())

    def later(self, seconds: float = identity.STORAGE_LOOK_SECONDS) -> None:
        self.now += seconds

    def beat(self, database: Database, times: int = 1) -> None:
        """A keeper at work for so many minutes."""
        for _ in range(times):
            self.redis.hset(KEY, "began", 0)
            database.beat()

    def backup(self) -> Callable[[], None]:
        """All of Redis now; call what it gives to restore it."""
        held: list[Any] = [
            (key, max(0, self.redis.pttl(key)), self.redis.dump(key)) for key in self.redis.scan_iter("*")
        ]

        def restore_it() -> None:
            # At once, as a whole database is there again: what works meanwhile sees no half of it.
            with self.redis.pipeline() as together:
                together.flushdb()
                for key, ttl, value in held:
                    together.restore(key, ttl, value)
                together.execute()

        return restore_it

    @property
    def remembered(self) -> dict[str, Any]:
        return dict(json.loads(self.storage.get(OBJECT)))


@pytest.fixture
def place(redis_url: str, tmp_path: Path) -> Iterator[Place]:
    with redis.Redis.from_url(redis_url) as connection:
        yield Place(connection, tmp_path / "storage")


def submitted(jobs: Jobs) -> Job:
    return jobs.submit(NewJob("ann", {"method": "flow"}, [], "cpu", result_ttl=600))


def test_a_first_start_simply_works_and_every_process_knows_the_same(place: Place) -> None:
    one, other = place.process(), place.process()
    job = submitted(one)
    assert other.get(job.id) == job
    assert other.start(job.id, 1, "horse").state is State.running
    assert place.redis.hget(KEY, "id") == place.remembered["id"].encode()


def test_a_database_of_the_version_before_is_taken_as_it_is(place: Place) -> None:
    """It has jobs, storage has their files, and neither has an identity."""
    job = submitted(Jobs(place.redis, place.settings))
    place.storage.put(f"jobs/{job.id}/keyframes/0.png", b"png", "image/png")
    newer = place.process()
    assert newer.start(job.id, job.attempt, "horse").state is State.running
    assert Jobs(place.redis, place.settings).get(job.id) is not None, "and that version goes on beside it"


def test_a_start_that_was_cut_short_is_finished_by_the_next(place: Place) -> None:
    place.redis.hset(KEY, mapping={"id": "ab" * 16, "epoch": 0})
    place.database().check()
    assert place.remembered == {"id": "ab" * 16, "epoch": 0}


def empty(place: Place) -> None:
    place.redis.flushdb()


def other(place: Place) -> None:
    place.redis.hset(KEY, "id", "cd" * 16)


def older(place: Place) -> None:
    place.redis.hset(KEY, "epoch", 1)


WRONG = {"empty": empty, "other": other, "older": older}
wrong = pytest.mark.parametrize("become", WRONG.values(), ids=WRONG)


@pytest.fixture
def served(place: Place) -> Jobs:
    """A process that has been at work for five minutes."""
    jobs = place.process()
    assert jobs.database is not None
    jobs.database.check()
    place.beat(jobs.database, 5)
    jobs.database.check(fresh=True)
    return jobs


@wrong
def test_every_verb_leaves_another_database_as_it_is(
    place: Place, served: Jobs, become: Callable[[Place], None]
) -> None:
    queued, running = submitted(served), submitted(served)
    served.start(running.id, 1, "horse")
    become(place)
    before = {key: place.redis.dump(key) for key in place.redis.keys("*")}
    verbs: dict[str, Callable[[Jobs], object]] = {
        "submit": submitted,
        "reserve": lambda jobs: jobs.reserve_files("job_of_a_request", 60),
        "cancel": lambda jobs: jobs.cancel(queued.id),
        "delete": lambda jobs: jobs.delete(queued.id),
        "redrive": lambda jobs: jobs.redrive(queued.id),
        "expire": lambda jobs: jobs.expire(queued.id),
        "start": lambda jobs: jobs.start(queued.id, 1, "horse"),
        "renew": lambda jobs: jobs.renew(running.id, 1),
        "progress": lambda jobs: jobs.progress(running.id, 1, {}),
        "succeed": lambda jobs: jobs.succeed(running.id, 1, {}),
        "fail": lambda jobs: jobs.fail(running.id, 1, {}, False),
        "release": lambda jobs: jobs.release(running.id, 1),
        "died": lambda jobs: jobs.died(running.id, 1, "lease"),
        "requeue": lambda jobs: jobs.requeue(queued.id, 1),
    }
    for jobs in (served, place.process()):
        for name, verb in verbs.items():
            with pytest.raises(DatabaseUnknown):
                verb(jobs)
            assert {key: place.redis.dump(key) for key in place.redis.keys("*")} == before, name


@wrong
def test_a_keeper_waits_and_erases_nothing(place: Place, served: Jobs, become: Callable[[Place], None]) -> None:
    job = submitted(served)
    place.storage.put(f"jobs/{job.id}/keyframes/0.png", b"png", "image/png")
    served.abandon_files(job.id, -1)
    become(place)
    keeper = Keeper(served, place.storage)
    with pytest.raises(DatabaseUnknown):
        keeper.sweep()
    keeper.wait(30)
    assert list(place.storage.list("jobs/")) == [f"jobs/{job.id}/keyframes/0.png"]
    assert not place.redis.exists(served.keys.keeper)


@wrong
def test_a_worker_takes_nothing_until_the_database_is_back(
    place: Place, served: Jobs, become: Callable[[Place], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.listener.DATABASE_PAUSE", 0.01)
    restore_it = place.backup()
    become(place)
    listener = Listener(["none"], connection=place.redis)
    listener.database = served.database
    waiting = threading.Thread(target=listener.check_for_suspension, args=(False,), daemon=True)
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()
    restore_it()
    waiting.join(20)
    assert not waiting.is_alive()


@wrong
def test_a_running_job_goes_on_as_in_an_outage(place: Place, served: Jobs, become: Callable[[Place], None]) -> None:
    job = submitted(served)
    served.start(job.id, 1, "horse")
    restore_it = place.backup()
    with Lease(served, job.id, 1) as lease:
        become(place)
        with pytest.raises(DatabaseUnknown):
            served.renew(job.id, 1)
        lease.check()
        restore_it()
        # As a work-horse does it: while the lease's thread looks, what was seen before still holds.
        persist(served.succeed, job.id, 1, {})
    found = served.get(job.id)
    assert found is not None
    assert (found.state, found.attempt) == (State.succeeded, 1)


@wrong
def test_it_goes_on_by_itself_when_the_known_one_is_back(
    place: Place, served: Jobs, become: Callable[[Place], None]
) -> None:
    job = submitted(served)
    restore_it = place.backup()
    become(place)
    started_meanwhile = place.process()
    for jobs in (served, started_meanwhile):
        with pytest.raises(DatabaseUnknown):
            jobs.start(job.id, 1, "horse")
    restore_it()
    place.later()
    for jobs in (served, started_meanwhile):
        assert jobs.start(job.id, 1, "horse").state is State.running


@wrong
def test_an_operator_adopts_what_is_there(place: Place, served: Jobs, become: Callable[[Place], None]) -> None:
    become(place)
    with pytest.raises(DatabaseUnknown):
        submitted(served)
    restore.adopt(place.database(), Jobs(place.redis, place.settings), place.storage)
    place.later()
    assert submitted(served).state is State.queued
    assert submitted(place.process()).state is State.queued
    assert served.database is not None
    place.beat(served.database, 3)
    assert submitted(place.process()).state is State.queued


def test_a_database_that_lost_its_last_moments_is_the_same(place: Place, served: Jobs) -> None:
    """As after a failover, or a kill without `appendfsync always`."""
    restore_it = place.backup()
    assert served.database is not None
    place.beat(served.database)
    served.database.check(fresh=True)
    restore_it()
    for jobs in (served, place.process()):
        assert submitted(jobs).state is State.queued


def test_one_that_is_minutes_old_is_not(place: Place, served: Jobs) -> None:
    restore_it = place.backup()
    assert served.database is not None
    place.beat(served.database, 3)
    restore_it()
    for jobs in (served, place.process()):
        with pytest.raises(DatabaseUnknown, match="older"):
            submitted(jobs)


def test_an_epoch_lasts_its_minute_however_many_keepers_there_are(place: Place) -> None:
    keepers = [place.database() for _ in range(3)]
    for keeper in keepers:
        keeper.beat()
    assert place.redis.hget(KEY, "epoch") == b"1"
    assert place.remembered["epoch"] == 0, "storage is one behind"
    place.redis.hset(KEY, "began", 10**10)
    keepers[0].beat()
    assert place.redis.hget(KEY, "epoch") == b"2", "a clock that went back does not stop it"


@pytest.fixture
def silent(place: Place, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Lets storage answer again."""

    def away(key: str) -> bytes:
        raise StorageUnavailable("gone")

    with_it = place.storage.get
    monkeypatch.setattr(place.storage, "get", away)
    return lambda: monkeypatch.setattr(place.storage, "get", with_it)


def test_while_storage_is_away_the_first_database_will_do_until_it_can_be_compared(
    place: Place, silent: Callable[[], None]
) -> None:
    place.redis.hset(KEY, mapping={"id": "cd" * 16, "epoch": 3})
    place.storage.put(OBJECT, json.dumps({"id": "ef" * 16, "epoch": 3}).encode(), "application/json")
    jobs = place.process()
    assert submitted(jobs).state is State.queued
    silent()
    place.later()
    with pytest.raises(DatabaseUnknown, match="cdcd"):
        submitted(jobs)


@pytest.mark.parametrize("storage_answers", [False, True])
def test_while_storage_is_away_no_other_than_the_first_will_do(
    place: Place, silent: Callable[[], None], storage_answers: bool
) -> None:
    place.redis.hset(KEY, mapping={"id": "cd" * 16, "epoch": 3})
    place.storage.put(OBJECT, json.dumps({"id": "cd" * 16, "epoch": 2}).encode(), "application/json")
    jobs = place.process()
    job = submitted(jobs)
    jobs.start(job.id, 1, "horse")
    bring_back = place.backup()
    place.redis.flushdb()
    for _ in range(3):
        with pytest.raises(DatabaseUnknown):
            jobs.renew(job.id, 1)
        place.later()
    bring_back()
    if storage_answers:
        silent()
    for _ in range(3):
        jobs.renew(job.id, 1)
        place.later()


def test_the_known_one_that_was_back_for_a_moment_does_not_vouch_for_the_next(
    place: Place, served: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While storage is away: another database, the known one, another again, all within seconds."""
    bring_back, database = place.backup(), served.database
    assert database is not None

    def away(key: str) -> bytes:
        raise StorageUnavailable("gone")

    monkeypatch.setattr(place.storage, "get", away)
    for _ in range(3):
        place.redis.flushdb()
        with pytest.raises(DatabaseUnknown):
            database.check(fresh=True)
        bring_back()
        database.check(fresh=True)


def test_storage_that_goes_away_too_makes_nothing_right(
    place: Place, served: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.redis.flushdb()
    late = place.process()
    with pytest.raises(DatabaseUnknown):
        submitted(late)

    def away(key: str) -> bytes:
        raise StorageUnavailable("gone")

    monkeypatch.setattr(place.storage, "get", away)
    place.later()
    for jobs in (served, late):
        with pytest.raises(DatabaseUnknown):
            submitted(jobs)


def test_nobody_waits_for_whoever_asks_a_silent_storage_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answers, looks = threading.Event(), threading.Event(), 0

    def get(key: str) -> bytes:
        nonlocal looks
        looks += 1
        if looks > 1:
            asked.set()
            assert answers.wait(30)
        place.later(60)  # the silence took far longer than the pause between two questions
        raise StorageUnavailable("silent")

    monkeypatch.setattr(place.storage, "get", get)
    database = place.database()
    database.check()
    database.check(fresh=True)
    assert looks == 1, "the pause is counted from the end of the silence"
    place.later()
    first = threading.Thread(target=database.check)
    first.start()
    assert asked.wait(30)
    database.check()
    database.check(fresh=True)
    assert first.is_alive()
    assert database.expected() == ""
    answers.set()
    first.join(30)
    assert looks == 2


def test_what_a_newer_version_remembers_is_read(place: Place, served: Jobs) -> None:
    place.storage.put(OBJECT, json.dumps({**place.remembered, "since": 1}).encode(), "application/json")
    assert submitted(place.process()).state is State.queued
    place.redis.flushdb()
    with pytest.raises(DatabaseUnknown):
        submitted(place.process())


@pytest.mark.parametrize("stored", [b"", b'{"id": "ab', b"[]", b'{"id": "ab"}'])
def test_a_memory_that_cannot_be_read_is_an_outage_which_adoption_ends(
    place: Place, served: Jobs, stored: bytes
) -> None:
    place.storage.put(OBJECT, stored, "application/json")
    late = place.process()
    assert submitted(late).state is State.queued, "as while storage is away"
    assert late.database is not None
    with pytest.raises(ObjectDamaged, match="database adopt"):
        late.database.difference()
    place.redis.flushdb()
    with pytest.raises(DatabaseUnknown, match="cannot be read"):
        submitted(served)
    place.database().adopt()
    place.later()
    assert submitted(served).state is State.queued


def test_a_look_holds_for_a_moment(place: Place, served: Jobs) -> None:
    assert served.database is not None
    place.redis.flushdb()
    served.database.check()
    place.later(identity.FRESH_SECONDS)
    with pytest.raises(DatabaseUnknown):
        served.database.check()


def test_deliveries_wait_too(place: Place, served: Jobs) -> None:
    hook = {"url": "https://example.com/", "events": ["inbetween.canceled"]}
    job = served.submit(NewJob("ann", {"method": "flow"}, [], "cpu", result_ttl=600, webhook=hook))
    ended = served.cancel(job.id)
    delivery = announce(served, place.settings, ended)
    assert delivery is not None
    place.redis.hset(KEY, "epoch", 0)
    sent: Any = SimpleNamespace()
    with pytest.raises(DatabaseUnknown):
        Webhooks(place.redis, place.settings, served.database).attempt(delivery, 1, sent)


def test_the_records_of_a_restored_database_say_what_is_gone(api: Api) -> None:
    kept, lost, running = (api.submit({"method": "flow"})["id"] for _ in range(3))
    for each in (kept, lost):
        api.succeed(each)
    api.start(running)
    api.jobs.reserve_files("job_of_a_request", -1)
    api.jobs.abandon_files("job_deleted", -1)
    for each in ("job_of_a_request", "job_deleted", "job_not_in_the_backup"):
        api.storage.put(f"jobs/{each}/keyframes/0.png", b"png", "image/png")
    api.storage.delete(f"jobs/{lost}/1/take-1.mp4")
    done = restore.adopt(api.services.database, api.jobs, api.storage)
    assert (done.lost, done.kept) == ((lost,), ("job_of_a_request",))
    assert api.client.get(f"/inbetween/{kept}").json()["state"] == "succeeded"
    gone = problem(api.client.get(f"/inbetween/{lost}"), 410, "job-expired")
    assert "gone" in gone["detail"]
    assert api.client.get(f"/inbetween/{running}").json()["state"] == "running"
    keeper = Keeper(api.jobs, api.storage)
    keeper.sweep()
    keeper.wait(30)
    keeper.close()
    left = {key.split("/")[1] for key in api.storage.list("jobs/")}
    assert left == {kept, running, "job_of_a_request", "job_not_in_the_backup"}


def test_a_request_that_is_under_way_may_still_be_refused_by_its_allowance(api: Api) -> None:
    """What was reserved for it goes at once, and is not kept by an adoption."""
    api.jobs.reserve_files("job_a", 60)
    api.jobs.abandon_files("job_a")
    keeper = Keeper(api.jobs, api.storage)
    keeper.sweep()
    keeper.wait(30)
    keeper.close()
    assert api.services.redis.zcard(api.jobs.keys.reserved) == 0


def test_callers_are_asked_to_come_back_and_not_told_that_their_jobs_or_keys_are_gone(make_api: Make) -> None:
    api = make_api(auth="keys")
    _, secret = api.services.keys.create("ann", CALLER)
    api.client.headers["Authorization"] = f"Bearer {secret}"
    job = api.submit({"method": "flow"})["id"]
    held: list[Any] = [(key, api.services.redis.dump(key)) for key in api.services.redis.keys("*")]
    api.services.redis.flushdb()
    asks: list[Callable[[], httpx.Response]] = [
        lambda: api.client.get(f"/inbetween/{job}"),
        lambda: api.client.get(f"/inbetween/{job}/events"),
        lambda: api.client.get("/inbetween"),
        lambda: api.client.delete(f"/inbetween/{job}"),
        lambda: api.client.post("/uploads", json={"content_type": "image/png", "size": 1}),
        lambda: api.post({"method": "flow"}, headers={"Idempotency-Key": "a"}),
        lambda: api.client.get("/readyz"),
        lambda: api.client.get("/metrics"),
    ]
    for ask in asks:
        told = ask()
        assert int(told.headers["Retry-After"]) > 0
        assert "empty" in problem(told, 503, "database-unknown")["detail"]
    assert api.client.get("/livez").status_code == 200
    for key, value in held:
        api.services.redis.restore(key, 0, value, replace=True)
    assert api.client.get(f"/inbetween/{job}").json()["state"] == "queued"


def test_nobody_is_told_that_a_job_or_key_is_gone_as_the_known_database_comes_back(
    make_api: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = make_api(auth="keys")
    _, secret = api.services.keys.create("ann", CALLER)
    api.client.headers["Authorization"] = f"Bearer {secret}"
    job = api.submit({"method": "flow"})["id"]
    for owner, verb in ((api.services.jobs, "get"), (api.services.keys, "verify")):
        asked: list[str] = []

        def from_an_empty_one(what: str, look: Any = getattr(owner, verb), asked: list[str] = asked) -> object:
            asked.append(what)
            return look(what) if len(asked) > 1 else None

        monkeypatch.setattr(owner, verb, from_an_empty_one)
        assert api.client.get(f"/inbetween/{job}").status_code == 200
        assert len(asked) == 2
        monkeypatch.undo()
    another = job[:-1] + ("x" if job[-1] != "x" else "y")
    assert problem(api.client.get(f"/inbetween/{another}"), 404, "job-not-found")
    del api.client.headers["Authorization"]
    assert problem(api.client.get(f"/inbetween/{job}"), 401, "unauthorized")


def test_figures_are_told_of_a_database_that_is_not_the_known_one(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "FRESH_SECONDS", 0.0)
    assert "\ninbetween_database_known 1.0\n" in api.client.get("/metrics").text
    api.services.redis.hset(KEY, "id", "cd" * 16)
    assert "\ninbetween_database_known 0.0\n" in api.client.get("/metrics").text
    # Nothing else is told of it, though none of this misses anything.
    problem(api.client.get("/inbetween"), 503, "database-unknown")
    asked = {"content_type": "image/png", "size": 1}
    problem(api.client.post("/uploads", json=asked), 503, "database-unknown")


def test_a_job_accepted_after_the_backup_keeps_its_files(place: Place, served: Jobs) -> None:
    """Its worker finds the record gone, in a database that is too little older to be told."""
    restore_it = place.backup()
    job = submitted(served)
    place.storage.put(f"jobs/{job.id}/keyframes/0.png", b"png", "image/png")
    served.start(job.id, 1, "horse")
    restore_it()
    with pytest.raises(Superseded):
        served.renew(job.id, 1)
    Lease(served, job.id, 1).settle(Reason.superseded)
    assert place.redis.zcard(served.keys.erasures) == 0
