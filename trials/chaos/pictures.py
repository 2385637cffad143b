"""Whether a video is made of the very pictures that were sent: by hash, and by looking at its first and last frame."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Collection, Iterable, Iterator, Mapping

import av
import numpy as np
from PIL import Image

from service.jobs.record import Job, State, file_key
from service.storage import ObjectMissing, Storage

ALIKE = 8.0
"""Mean difference of two pictures (0 to 255) that an encoder may make, and another keyframe does not."""


def forged(
    found: Iterable[Job], storage: Storage, sent: Mapping[str, tuple[bytes, ...]], beside: Collection[str]
) -> Iterator[str]:
    """Yield succeeded jobs whose result is not of the keyframes sent with their reference.

    Only the method `flow` keeps the keyframes as they are, so only its frames are looked at. beside: ids of jobs that
    may have no files.
    """
    for job in found:
        pictures = sent.get(str(job.options.get("reference")))
        if job.state is not State.succeeded or job.result is None or pictures is None or job.id in beside:
            continue
        hashes = [hashlib.sha256(picture).hexdigest() for picture in pictures]
        if [keyframe["sha256"] for keyframe in job.keyframes] != hashes:
            yield f"{job.id}: its record names other keyframes than were sent"
        if [keyframe["sha256"] for keyframe in job.result["keyframes"]] != hashes:
            yield f"{job.id}: its result names other keyframes than were sent"
        try:
            if job.options["method"] == "flow":
                ends = _ends(storage.get(file_key(job, "take-1.mp4")))
                for which, frame, picture in zip(("first", "last"), ends, (pictures[0], pictures[-1]), strict=True):
                    if (difference := _difference(frame, picture)) > ALIKE:
                        yield f"{job.id}: its {which} frame is not the keyframe that was sent, by {difference:.1f}"
        except ObjectMissing as missing:
            yield f"{job.id}: {missing}"


def _ends(video: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Read the first and the last frame, (H, W, 3)."""
    with av.open(io.BytesIO(video)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return frames[0], frames[-1]


def _difference(frame: np.ndarray, picture: bytes) -> float:
    with Image.open(io.BytesIO(picture)) as image:
        wanted = np.asarray(image.convert("RGB").resize((frame.shape[1], frame.shape[0])))
    return float(np.abs(frame.astype(np.int16) - wanted).mean())
