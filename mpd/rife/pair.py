"""The frames between two pictures, several at a time: the network's, `flow`'s, and what stands still, as one."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from mpd import cores, vector_fields
from mpd.between import Tell, abreast
from mpd.flow.motion import RELATED, estimate, texture
from mpd.flow.rendering import IntermediateFlows, intermediate, render
from mpd.flow.stillness import stillness
from mpd.flow.trust import report
from mpd.progress import Frames, MotionReport, Pictures
from mpd.rife import blending
from mpd.rife.interpolator import Interpolator, Rendered
from mpd.vector_fields import Field, ramp, reached

_STANDS = 0.5
"""Stillness, in 0…1, from which a pixel says nothing of whether two pictures are related."""


class Maker:
    """Makes the frames between two pictures, as `mpd.between.Between`.

    One thread for each core and frame, each with one thread of torch's own: a frame is too small to be shared.
    """

    def __init__(self, interpolator: Interpolator, source: str) -> None:
        """Take motion from `source`, one of `mpd.methods.MOTIONS`."""
        self._interpolator = interpolator
        self._source = source

    def __call__(
        self, start: Pictures, end: Pictures, times: Sequence[float], tell: Tell
    ) -> Generator[Frames, None, None]:
        workers = cores.usable() if self._interpolator.device.type == "cpu" else 2
        with ThreadPoolExecutor(workers, "frames", initializer=torch.set_num_threads, initargs=(1,)) as pool:
            pair = _Pair(self._interpolator, self._source, start, end, pool)
            tell(pair.report())
            yield from abreast(pool, workers, pair.frame, times)


class _Pair:
    """What is the same for every frame between two pictures (H, W, 3 or 4)."""

    def __init__(
        self, interpolator: Interpolator, source: str, start: Pictures, end: Pictures, pool: ThreadPoolExecutor
    ) -> None:
        self._given: tuple[Frames, Frames] = (start.astype(np.float32), end.astype(np.float32))
        colours = start[..., :3], end[..., :3]
        motion = pool.submit(estimate, *colours) if source != "rife" else None
        seen = pool.submit(interpolator.pair, *colours) if source != "dis" else None
        self._looks = blending.looks(*colours, vector_fields.working_size(*start.shape[:2]))
        self._still = stillness(start, end)
        self._motion = motion.result() if motion is not None else None
        self._seen = seen.result() if seen is not None else None
        self._ways = self._network_ways() if self._seen is not None else None
        self.related = max(0.0 if self._motion is None else self._motion.related, self._network_related())

    def report(self) -> MotionReport:
        """Tell how far the motion is to be believed that was found most of."""
        size = self._given[0].shape[:2]
        reports = []
        if self._motion is not None:
            reports.append(report((self._motion.forward, self._motion.backward), self._motion.sure, self._still, size))
        if self._ways is not None:
            to_start, to_end = self._ways
            sure = self._sure(self._ways) * np.float32(self.related)
            reports.append(report((to_end - to_start,), (sure,), self._still, size))
        return max(reports, key=lambda one: one.trusted)

    def _network_ways(self) -> tuple[Field, Field]:
        """Give the network's motion halfway, at working size."""
        assert self._seen is not None
        rendered = self._seen.at(0.5, refined=False)
        to_start, to_end = (
            vector_fields.resized(flow, *self._looks.size) for flow in (rendered.to_start, rendered.to_end)
        )
        return to_start, to_end

    def _network_related(self) -> float:
        """Tell in 0…1 how much is shown halfway of what is seen of both pictures and does not stand still."""
        if self._ways is None:
            return 0.0
        sure = self._sure(self._ways)
        stands = cv2.resize(self._still.still, self._looks.size, interpolation=cv2.INTER_AREA) >= _STANDS
        if stands.all():
            return 1.0
        shown = [
            float((texture(look) * reached(way, sure))[~stands].sum() / texture(look)[~stands].sum())
            for look, way in zip((self._looks.start, self._looks.end), self._ways, strict=True)
        ]
        return float(ramp(np.float32(min(shown)), *RELATED))

    def _sure(self, ways: tuple[Field, Field]) -> NDArray[np.float32]:
        sure: NDArray[np.float32] = 1 - ramp(self._looks.mismatch(*ways), *blending.UNLIKE)
        return sure

    def frame(self, time: float) -> Frames:
        """Make the frame at `time` (0…1), float32 in 0…255: a dissolve as far as the two are unrelated."""
        start, end = self._given
        if self.related == 0:
            return _dissolve(start, end, time)
        made = self._moved(time)
        if self.related == 1:
            return made
        plain = _dissolve(start, end, time)
        return plain + np.float32(self.related) * (made - plain)

    def _moved(self, time: float) -> Frames:
        start, end = self._given
        if self._seen is None:
            frame, flows = self._by_motion(time)
            to_start, to_end = self._full(flows)
            return self._still.keep(frame, start, end, to_start, to_end, time)
        rendered = self._seen.at(time)
        frame, to_start, to_end = self._by_network(rendered), rendered.to_start, rendered.to_end
        if self._motion is not None:
            own, flows = self._by_motion(time)
            share = blending.shares(self._looks, rendered, flows)
            frame = blending.blended(frame, own, share)
            other_start, other_end = self._full(flows)
            to_start = blending.chosen(to_start, other_start, share)
            to_end = blending.chosen(to_end, other_end, share)
        return self._still.keep(frame, start, end, to_start, to_end, time)

    def _full(self, flows: IntermediateFlows) -> tuple[Field, Field]:
        height, width = self._given[0].shape[:2]
        to_start, to_end = (vector_fields.resized(flow, width, height) for flow in (flows.to_start, flows.to_end))
        return to_start, to_end

    def _by_motion(self, time: float) -> tuple[Frames, IntermediateFlows]:
        assert self._motion is not None
        moment = np.float32(time)
        flows = intermediate(self._motion, moment)
        return render(*self._given, flows, self._motion.gain, moment), flows

    def _by_network(self, rendered: Rendered) -> Frames:
        if self._given[0].shape[2] == 3:
            return rendered.frame
        grid = self._grid
        mattes = [
            vector_fields.sample(picture[..., 3], grid + way)
            for picture, way in zip(self._given, (rendered.to_start, rendered.to_end), strict=True)
        ]
        matte = rendered.share * mattes[0] + (1 - rendered.share) * mattes[1]
        return np.dstack([rendered.frame, matte])

    @cached_property
    def _grid(self) -> Field:
        return vector_fields.grid(*self._given[0].shape[:2])


def _dissolve(start: Frames, end: Frames, time: float) -> Frames:
    dissolved: Frames = cv2.addWeighted(start, 1 - time, end, time, 0)
    return dissolved
