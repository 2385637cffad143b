"""What the trial hurts the service with does hurt, and is undone without a trace."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis

from service.jobs.record import NewJob, files_prefix
from service.jobs.store import Jobs
from service.outbound.client import Outbound, OutboundError
from service.outbound.target import UrlUnreadable, read_url
from service.settings import ServiceSettings
from service.storage import StorageError, StorageFull, open_storage
from tests import odd_s3
from trials.chaos import swaps
from trials.chaos.databases import MARK, Databases, Lost
from trials.chaos.machines import Machine
from trials.chaos.proxy import Line, Proxy
from trials.chaos.receivers import UNREADABLE, Health, Ill
from trials.chaos.refusals import REFUSALS
from trials.servers import free_port


@pytest.fixture
def jobs(redis_url: str, tmp_path: Path) -> Iterator[Jobs]:
    settings = ServiceSettings.model_validate({"redis_url": redis_url, "storage_url": str(tmp_path / "storage")})
    with redis.Redis.from_url(redis_url) as connection:
        yield Jobs(connection, settings)


def submit(jobs: Jobs, key: str = "keyframe") -> str:
    keyframes = [{"key": key, "content_type": "image/png", "sha256": ""}]
    return jobs.submit(NewJob("local", {}, keyframes, "cpu", result_ttl=600)).id


def test_a_line_that_refuses_answers_everything_so_and_then_carries_again() -> None:
    with odd_s3.serving() as server, Proxy(free_port(), server.server_port) as proxy:
        near = {**server.settings, "storage_endpoint": f"http://127.0.0.1:{proxy.port}"}
        storage = open_storage(ServiceSettings.model_validate(near), None, attempts=1)  # type: ignore[arg-type]
        storage.put("a", b"before", "image/png")
        for refusal in REFUSALS:
            proxy.become(Line.refusing, refusal)
            for ask in (
                lambda: storage.put("a", b"x" * 100_000, "image/png"),
                lambda: storage.get("a"),
                lambda: storage.stat("a"),
                lambda: storage.delete("a"),
                lambda: list(storage.list("")),
            ):
                with pytest.raises(StorageError) as told:
                    ask()
                assert isinstance(told.value, StorageFull) == (refusal.status == 507), refusal
        proxy.become(Line.open)
        assert storage.get("a") == b"before"


@pytest.mark.needs("to mount a file system")
def test_a_machine_runs_out_of_room_and_has_it_again() -> None:
    with Machine() as machine:
        assert machine.lacking == "disk"
        machine.sicken([])
        with pytest.raises(OSError, match="No space") as full:
            (machine.folder / "file").write_bytes(bytes(100_000))
        assert full.value.errno == errno.ENOSPC
        machine.heal([])
        (machine.folder / "file").write_bytes(bytes(100_000))
    assert not machine.folder.exists()


OPENER = """
import os, sys
for line in sys.stdin:
    files, told = [], 'opened'
    try:
        for _ in range(20): files.append(os.open('/dev/null', os.O_RDONLY))
    except OSError as error:
        told = error.errno
    for file in files: os.close(file)
    print(told, flush=True)
"""


def test_where_nothing_can_be_mounted_processes_run_out_of_descriptors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        Machine() as machine,
        subprocess.Popen([sys.executable, "-c", OPENER], stdin=-1, stdout=-1, text=True, bufsize=1) as opener,
    ):
        assert machine.lacking == "descriptors"
        assert opener.stdin

        def told() -> str:
            print("go", file=opener.stdin, flush=True)
            assert opener.stdout
            return opener.stdout.readline().strip()

        assert told() == "opened"
        machine.sicken([psutil.Process(opener.pid)])
        assert told() == str(errno.EMFILE)
        machine.heal([psutil.Process(opener.pid)])
        assert told() == "opened"
        opener.stdin.close()


@pytest.mark.parametrize("health", [Health.silent, Health.poisoned])
def test_an_ill_receiver_answers_no_webhook(health: Health) -> None:
    outbound = Outbound(["127.0.0.1"])
    with Ill() as ill:
        ill.health = health
        for _ in range(5 if health is Health.poisoned else 1):
            try:
                answer = outbound.post(read_url(ill.url), b"{}", {}, timeout=0.3)
            except OutboundError:
                continue
            assert answer.status in (200, 302)
        ill.health = Health.well
        assert outbound.post(read_url(ill.url), b"{}", {}, timeout=10).status == 204


@pytest.mark.parametrize("url", UNREADABLE)
def test_what_a_poisoned_record_names_is_let_in_by_nobody_now(url: str) -> None:
    with pytest.raises(UrlUnreadable):
        read_url(url)


def test_another_database_stands_in_and_the_right_one_comes_back(jobs: Jobs) -> None:
    databases = Databases(jobs.settings)
    early = submit(jobs)
    databases.copy()
    late = submit(jobs)
    jobs.cancel(early)
    for stand_in, seen in ((databases.empty, set()), (databases.age, {early})):
        for _ in range(2):
            stand_in()  # an answer may be lost, and then it is done again
        assert jobs.redis.exists(MARK)
        assert {name for name in (early, late) if jobs.get(name)} == seen
        for _ in range(2):
            databases.bring_back()
        assert {name for name in (early, late) if jobs.get(name)} == {early, late}
    databases.close()


def test_a_restored_copy_lacks_what_came_after_it_and_that_is_known(jobs: Jobs) -> None:
    databases, lost = Databases(jobs.settings), Lost()
    same, canceled, deleted = (submit(jobs) for _ in range(3))
    databases.copy()
    younger = submit(jobs, "its/keyframe")
    jobs.cancel(canceled)
    jobs.delete(deleted)
    jobs.reserve_files("job_of_a_request", 60)
    databases.empty()
    for _ in range(2):
        databases.restore(lost)
    assert lost == Lost({younger: ["its/keyframe"]}, {"job_of_a_request", deleted}, {deleted}, {canceled})
    assert [bool(jobs.get(name)) for name in (same, canceled, deleted, younger)] == [True, True, True, False]
    databases.close()


@pytest.mark.parametrize("pick", [0.1, 0.9])
def test_a_swapped_keyframe_is_another_file_until_it_is_put_back(jobs: Jobs, pick: float) -> None:
    storage = open_storage(jobs.settings, jobs.redis)
    assert swaps.swap(jobs, storage, pick) is None
    key = "keyframes/0"
    storage.put(key, b"a picture", "image/png")
    submit(jobs, key)
    swapped = swaps.swap(jobs, storage, pick)
    assert swapped is not None
    assert storage.get(key) != b"a picture"
    swaps.put_back(jobs, storage, swapped)
    assert storage.get(key) == b"a picture"


def test_what_is_put_back_after_its_job_was_erased_does_not_stay(jobs: Jobs) -> None:
    storage = open_storage(jobs.settings, jobs.redis)
    storage.put("one", b"a picture", "image/png")
    job = submit(jobs, "one")
    found = jobs.get(job)
    assert found is not None
    swapped = swaps.Swap(job, f"{files_prefix(job)}keyframes/0", "image/png", b"a picture")
    swaps.put_back(jobs, storage, swapped)
    assert not list(storage.list(files_prefix(job))), "it had been erased before"
    storage.put(swapped.key, b"another", "image/png")
    jobs.delete(job)
    swaps.put_back(jobs, storage, swapped)
    assert not list(storage.list(files_prefix(job))), "it was erased meanwhile"
