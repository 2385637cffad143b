"""An attempt's files: stored whole, the manifest last, and found again by the next attempt."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mpd.output.clip import Clip
from service.storage import LocalStorage, StorageUnavailable
from worker.task import retrying
from worker.task.artifacts import _THREADS, MANIFEST, Artifacts, attempt_prefix, committed

JOB = "job_0"


class Recording(LocalStorage):
    """A local folder that remembers the order in which it was written, and may be out of order itself."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, lambda: b"k" * 32)
        self.written: list[str] = []
        self.outages = 0
        self.asked: set[str] = set()

    def put(self, key: str, source: bytes | Path, content_type: str) -> None:
        self.asked.add(key)
        if self.outages:
            self.outages -= 1
            raise StorageUnavailable("away")
        super().put(key, source, content_type)
        self.written.append(key)


@pytest.fixture
def storage(tmp_path: Path) -> Recording:
    return Recording(tmp_path / "storage")


def clip(index: int = 0) -> Clip:
    return Clip(np.random.default_rng(index).integers(0, 255, (5, 32, 48, 3), dtype=np.uint8), 10)


def store(storage: Recording, folder: Path, check: Callable[[], None] = lambda: None) -> dict[str, object]:
    with Artifacts(storage, attempt_prefix(JOB, 1), folder, check) as files:
        for index in range(2):
            files.encode(index, 10 + index, clip(index), ["mp4", "png"])
            files.store()
        return files.commit(
            {"keyframes": [{"image": "job:job_0/0"}], "options": {"seeds": [10, 11]}}, attempt=1, model=None
        )


def test_everything_is_stored_with_its_hash_and_the_manifest_last(storage: Recording, tmp_path: Path) -> None:
    result = store(storage, tmp_path)
    assert (result["frames"], result["width"], result["height"]) == (5, 48, 32)
    assert (result["fps"], result["duration"], result["seeds"]) == (10, 0.5, [10, 11])
    assert storage.written[-1] == "jobs/job_0/1/manifest.json"
    manifest = json.loads(storage.get("jobs/job_0/1/manifest.json"))
    names = {file["name"] for file in manifest["files"] + manifest["stills"]}
    assert names == {key.removeprefix("jobs/job_0/1/") for key in storage.written} - {"manifest.json"}
    assert {"take-1.mp4", "take-2.mp4", "take-1.zip", "poster.jpg", "take-2/frame-0004.jpg"} <= names
    metadata = json.loads(storage.get("jobs/job_0/1/metadata.json"))
    assert (metadata["options"], metadata["result"]["seeds"]) == ({"seeds": [10, 11]}, [10, 11])
    for file in manifest["files"] + manifest["stills"]:
        data = storage.get("jobs/job_0/1/" + file["name"])
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file["size"], file["sha256"])


def test_the_next_attempt_finds_a_whole_result_and_no_other(storage: Recording, tmp_path: Path) -> None:
    assert committed(storage, JOB, 2) is None
    result = store(storage, tmp_path)
    assert committed(storage, JOB, 2) == result
    assert committed(storage, JOB, 4) == result
    assert committed(storage, JOB, 1) is None
    whole = storage.get("jobs/job_0/1/take-2.mp4")
    storage.put("jobs/job_0/1/take-2.mp4", whole[:-1], "video/mp4")
    assert committed(storage, JOB, 2) is None
    storage.put("jobs/job_0/1/take-2.mp4", whole, "video/mp4")
    assert committed(storage, JOB, 2) == result
    storage.delete("jobs/job_0/1/take-2.mp4")
    assert committed(storage, JOB, 2) is None


@pytest.mark.parametrize("damaged", [b"<html>Log in first</html>", b"{}", b"[]", b'{"files": [], "sti'])
def test_a_manifest_that_is_none_is_no_result(storage: Recording, damaged: bytes) -> None:
    storage.put(f"{attempt_prefix('job', 1)}{MANIFEST}", damaged, "application/json")
    assert committed(storage, "job", 2) is None


def test_an_outage_of_storage_is_sat_out(storage: Recording, tmp_path: Path) -> None:
    storage.outages = 3
    result = store(storage, tmp_path)
    assert committed(storage, JOB, 2) == result


def test_a_lasting_outage_ends_the_attempt(storage: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "STORAGE_PATIENCE", 0.2)
    storage.outages = 10_000
    with pytest.raises(StorageUnavailable):
        store(storage, tmp_path)
    assert committed(storage, JOB, 2) is None


def test_all_pictures_together_sit_out_a_lasting_outage_only_once(
    storage: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrying, "STORAGE_PATIENCE", 0.2)
    storage.outages = sys.maxsize
    frames = np.zeros((60, 32, 48, 3), np.uint8)
    with Artifacts(storage, "jobs/1/", tmp_path, lambda: None) as files:
        files.encode(0, 10, Clip(frames, 10), [])
        with pytest.raises(StorageUnavailable):
            files.store()
    assert len(storage.asked) <= _THREADS


def test_an_interruption_leaves_no_manifest(storage: Recording, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls > 20:
            raise Stop

    with pytest.raises(Stop):
        store(storage, tmp_path, check)
    assert committed(storage, JOB, 2) is None
