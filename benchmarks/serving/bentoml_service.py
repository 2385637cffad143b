"""The comparison's work behind BentoML, in whose own environment it runs.

    bentoml serve benchmarks.serving.bentoml_service:Inbetween

`/now` answers with the video. `/later` is a task: BentoML keeps the request and its result in SQLite and answers with
an id. The environment says how many workers there are, processes that share the one GPU by its lock.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Annotated

import bentoml
from bentoml.validators import ContentType

from benchmarks.serving.work import JobInputs


@bentoml.service(
    workers=int(os.environ["SERVING_WORKERS"]),
    threads=4,
    traffic={"timeout": 120},
    logging={"access": {"enabled": False}},
)
class Inbetween:
    def __init__(self) -> None:
        self.work = JobInputs.here()

    @bentoml.api
    def now(self, start: Path, end: Path, ctx: bentoml.Context) -> Annotated[Path, ContentType("video/mp4")]:
        path = Path(ctx.temp_dir) / f"{uuid.uuid4().hex}.mp4"  # BentoML removes the folder after its answer
        path.write_bytes(self._video(start, end))
        return path

    @bentoml.task
    def later(self, start: Path, end: Path) -> Annotated[bytes, ContentType("video/mp4")]:
        # A task of this release that returns a file fails: its answer is kept without the request's method.
        return self._video(start, end)

    def _video(self, start: Path, end: Path) -> bytes:
        return self.work.encode(self.work.generate(self.work.decode([start.read_bytes(), end.read_bytes()])))
