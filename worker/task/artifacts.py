"""The files of one attempt: made from its takes, stored under its own prefix, a manifest with their hashes last.

A manifest that can be read is the proof that every file of the attempt is whole. Knows nothing of engines, of Redis or
of how the frames came about.
"""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import structlog

from mpd.output import stills, video
from mpd.output.clip import Clip
from mpd.output.formats import FORMATS
from service.jobs.record import files_prefix
from service.storage import ObjectMissing, Storage
from worker.task.retrying import patiently
from worker.task.threads import ThreadGroup

MANIFEST = "manifest.json"
POSTER = "poster.jpg"
CONTACT_SHEET = "contact-sheet.jpg"
log = structlog.get_logger("task")

_THREADS = 8
"""That make pictures and store files: storage over a network takes many at once."""


@dataclass(frozen=True)
class Artifact:
    """One stored file."""

    #: Below the attempt's prefix.
    name: str
    #: From 1; None where it belongs to the whole job.
    take: int | None
    format: str
    content_type: str
    size: int
    sha256: str


def attempt_prefix(job_id: str, attempt: int) -> str:
    """Say where the files of one attempt lie in storage."""
    return f"{files_prefix(job_id)}{attempt}/"


def still_name(take: int, frame: int) -> str:
    """Name of one frame as a picture; takes count from 1, frames from 0."""
    return f"take-{take}/frame-{frame:04d}.jpg"


class Artifacts:
    """Makes and stores the files of one attempt. A context manager; at its end nothing of it is at work any more.

    folder: for files on their way; its owner removes it. check: called again and again between pieces of work;
    what it raises passes through, and leaves nothing in storage that a reader could take for a result. wait: sleeps
    while storage does not answer; what it raises passes through too.
    """

    def __init__(
        self,
        storage: Storage,
        prefix: str,
        folder: Path,
        check: Callable[[], None],
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._storage = storage
        self._prefix = prefix
        self._folder = folder
        self._coming = ThreadGroup[Artifact](_THREADS, check, wait)
        self._files: list[Artifact] = []
        self._stills: list[Artifact] = []
        self._alpha = False
        self._shape: tuple[int, ...] = ()
        self._fps = 0
        self._seeds: list[int] = []

    def __enter__(self) -> Artifacts:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._coming.__exit__(kind, error, tb)

    def encode(self, index: int, seed: int, clip: Clip, formats: Sequence[str]) -> None:
        """Write a take (from 0) in every format; of the first take also a poster and a contact sheet.

        Each file goes into storage as soon as it is made; `store` waits for them.
        """
        number, frames = index + 1, clip.frames
        self._seeds.append(seed)
        pictures = [(still_name(number, place), partial(stills.jpeg, frame)) for place, frame in enumerate(frames)]
        if index == 0:
            self._shape, self._fps, self._alpha = frames.shape, clip.fps, clip.matte is not None
            pictures.insert(0, (POSTER, partial(stills.poster, frames)))
            pictures.insert(1, (CONTACT_SHEET, partial(stills.contact_sheet, frames)))
        for picture, make in pictures:
            self._coming.submit(self._make, picture, number, make)
        for name in formats:
            known = FORMATS[name]
            path = self._folder / f"take-{number}{known.ending}"
            video.encode(clip, name, path, lambda _: self._coming.check())
            self._coming.submit(self._put, path.name, number, name, known.content_type, path)

    def store(self) -> None:
        """Wait until all that `encode` made is stored. Raises `StorageUnavailable` for a lasting outage."""
        for file in sorted(self._coming.results(), key=lambda file: file.name in (POSTER, CONTACT_SHEET)):
            (self._stills if file.name.startswith(f"take-{file.take}/") else self._files).append(file)

    def commit(self, request: dict[str, Any], **about: Any) -> dict[str, Any]:
        """Store `metadata.json` and then the manifest. Returns what the job's record keeps of it.

        request: the body that asks for this video again; `metadata.json` is that, and a `result` beside it.
        about: JSON values that say how the video was made.
        """
        frames, height, width, _ = self._shape
        facts: dict[str, Any] = {
            "frames": frames,
            "fps": self._fps,
            "width": width,
            "height": height,
            "duration": frames / self._fps,
            "alpha": self._alpha,
            "seeds": self._seeds,
            **about,
        }
        metadata = json.dumps({**request, "result": facts}, indent=2).encode()
        self._files.append(self._put("metadata.json", None, "json", "application/json", metadata))
        result = {**facts, "files": [asdict(file) for file in self._files]}
        manifest = {**result, "stills": [asdict(file) for file in self._stills]}
        self._coming.check()
        self._put(MANIFEST, None, "json", "application/json", json.dumps(manifest, indent=2).encode())
        return result

    def _make(self, name: str, take: int, make: Callable[[], bytes]) -> Artifact:
        self._coming.check()
        return self._put(name, take, "jpg", "image/jpeg", make())

    def _put(self, name: str, take: int | None, form: str, content_type: str, source: Path | bytes) -> Artifact:
        self._coming.check()
        with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            size = stream.seek(0, io.SEEK_END)
        patiently(self._coming.wait, self._storage.put, self._prefix + name, source, content_type)
        return Artifact(name, take, form, content_type, size, digest)


def committed(storage: Storage, job_id: str, before: int) -> dict[str, Any] | None:
    """Find the result of an earlier attempt that stored everything and then could not say so; None where none did."""
    for attempt in range(before - 1, 0, -1):
        prefix = attempt_prefix(job_id, attempt)
        try:
            stored = storage.get(prefix + MANIFEST)
        except ObjectMissing:
            continue
        try:
            manifest: dict[str, Any] = json.loads(stored)
            files = [*manifest["files"], *manifest["stills"]]
        except (ValueError, KeyError, TypeError):
            log.warning("an earlier attempt's manifest is damaged, making its video again", earlier=attempt)
            continue
        try:
            whole = all(storage.stat(prefix + file["name"]).size == file["size"] for file in files)
        except ObjectMissing:
            continue
        if whole:
            return {name: value for name, value in manifest.items() if name != "stills"}
    return None
