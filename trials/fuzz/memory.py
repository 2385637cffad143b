"""How much memory the API process holds while it is at rest, over a trial.

Read between requests, when nothing is in flight: what a request needs while it runs is given back, and what is not
given back adds up. The first readings, before `settled`, are a warm-up: thread pools and decoders are made on first
use. Knows nothing of the requests.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import Any

SWING = 0.10
"""How far a reading may be from the median of those after the warm-up, as a share of it."""
TOLD = ("first", "last", "least", "median", "most")


@dataclass
class Memory:
    """The API's memory over a trial."""

    #: (requests answered until then, resident bytes).
    readings: list[tuple[int, int]] = field(default_factory=list)
    #: Requests at which the warm-up was over.
    settled: int | None = None

    def read(self, answered: int, resident: int) -> None:
        self.readings.append((answered, resident))

    @property
    def after(self) -> list[int]:
        """Resident bytes after the warm-up."""
        return [resident for answered, resident in self.readings if self.settled is None or answered >= self.settled]

    @property
    def swing(self) -> float:
        """The largest distance from the median after the warm-up, as a share of it."""
        after = self.after
        if not after:
            return 0.0
        middle = median(after)
        return max(abs(resident - middle) for resident in after) / middle

    @property
    def flat(self) -> bool:
        return self.swing <= SWING

    def to_dict(self) -> dict[str, Any]:
        after = self.after
        ends = (after[0], after[-1], min(after), median(after), max(after)) if after else (0,) * len(TOLD)
        return {
            "readings": len(after),
            **{name: round(resident / 1e6, 1) for name, resident in zip(TOLD, ends, strict=True)},
            "swing": round(self.swing, 4),
            "warm_up_requests": self.settled,
            "samples": [[answered, round(resident / 1e6, 1)] for answered, resident in self.readings],
        }
