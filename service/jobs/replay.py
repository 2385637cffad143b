"""A job's record turned back into the request that makes the same video: the body of `metadata.json`.

Its keyframes are named by the job that has them, `job:ID/0` and so on, with their hashes: its owner can have them for
as long as the job is kept; later, or elsewhere, the same files under other names do as well. Knows nothing of HTTP.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from service.jobs.options import SETTINGS_FIELDS

JOB_PREFIX = "job:"
_REFERENCE = re.compile(r"job:(job_[0-9a-z]{26})/([0-9]{1,2})")


def request_of(job_id: str, options: dict[str, Any], keyframes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Write the JSON body for `POST /inbetween`.

    options, keyframes: as the job's record has them (`Options.normalised`).
    """
    settings = {name: value for name, value in options.items() if name in SETTINGS_FIELDS}
    positions: list[int] | None = settings.pop("positions", None)
    pictures: list[dict[str, Any]] = [
        {"image": f"{JOB_PREFIX}{job_id}/{number}", "sha256": keyframe["sha256"]}
        for number, keyframe in enumerate(keyframes)
    ]
    if positions is not None:
        for picture, frame in zip(pictures, positions, strict=False):
            picture["frame"] = frame
        if settings["loop"]:
            settings["loop_frame"] = positions[-1]
    own = {name: options[name] for name in ("formats", "reference") if name in options}
    return {"keyframes": pictures, "options": settings | own}


def parse(reference: str) -> tuple[str, int] | None:
    """Read the job's id and the keyframe's number, from 0; None for text that is no such reference."""
    match = _REFERENCE.fullmatch(reference)
    return (match[1], int(match[2])) if match else None
