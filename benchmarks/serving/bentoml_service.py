"""The comparison's work behind BentoML; runs in BentoML's own environment: `bentoml serve benchmarks.serving.bentoml_service:Inbetween`.

`/now` answers with the video. `/later` is a task: BentoML keeps the request and its result in SQLite and answers with
an id. Two workers, processes, which share the one GPU by its lock.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Annotated

import bentoml
from bentoml.validators import ContentType

from benchmarks.serving.work import Work

Video = Annotated[Path, ContentType("video/mp4")]


@bentoml.service(workers=2, threads=4, traffic={"timeout": 120}, logging={"access": {"enabled": False}})
class Inbetween:
    def __init__(self) -> None:
        self.work = Work.here()

    @bentoml.api
    def now(self, start: Path, end: Path, ctx: bentoml.Context) -> Video:
        return self._video(start, end, ctx)

    @bentoml.task
    def later(self, start: Path, end: Path, ctx: bentoml.Context) -> Video:
        return self._video(start, end, ctx)

    def _video(self, start: Path, end: Path, ctx: bentoml.Context) -> Path:
        frames = self.work.generate(self.work.decode([start.read_bytes(), end.read_bytes()]))
        path = Path(ctx.temp_dir) / f"{uuid.uuid4().hex}.mp4"  # BentoML removes the folder after its answer
        path.write_bytes(self.work.encode(frames))
        return path
