"""Which fault comes when: a list that a seed decides, and nothing of how a fault is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

KINDS: Mapping[str, tuple[float, float]] = {
    "kill-horse": (0, 0),
    "kill-worker": (0, 0),
    "kill-engine": (0, 0),
    "kill-launcher": (0.5, 2),
    "kill-keeper": (0.5, 2),
    "kill-api": (0.2, 1.5),
    "kill-redis": (0.2, 3),
    "kill-s3": (0.2, 3),
    "stop-horse": (9, 12),
    "stop-worker": (2, 5),
    "stop-engine": (11, 14),
    "stop-launcher": (2, 5),
    "stop-keeper": (9, 12),
    "stop-api": (1, 4),
    "stop-redis": (1, 4),
    "stop-s3": (1, 5),
    "cut-s3": (1, 5),
    "slow-s3": (2, 5),
    "refuse-s3": (1, 5),
    "swap-keyframe": (1, 5),
    "sicken-launcher": (4, 8),
    "silence-receiver": (5, 9),
    "poison-receiver": (5, 9),
    "empty-redis": (1, 4),
    "age-redis": (1, 4),
    "restore-redis": (1, 4),
    "term-launcher": (0, 0),
    "term-api": (0, 0),
    "term-keeper": (0, 0),
}
"""Each fault, with the seconds (least, most) that it lasts: until a killed process is started again, a stopped one
continued, a line restored. Work-horses, workers and engines have their own parents to bring them back.

refuse-s3: the storage answers ExpiredToken and the like. swap-keyframe: it gives another file. sicken-launcher: its
machine has no room or no descriptors. silence- and poison-receiver: one customer's. empty-redis, age-redis: Redis is
empty, or an old copy, until the right database is back. restore-redis: it is empty, and then as it was seconds before.
"""

HEAVY = ("engine", "launcher")
"""What takes seconds of a core to come back."""


@dataclass(frozen=True)
class InjectedFault:
    """One fault: what is done, when, for how long and to which."""

    kind: str
    #: Seconds after the one before.
    pause: float
    #: How long it lasts.
    seconds: float
    #: 0 to 1, which of several is hit.
    pick: float


def schedule(seed: int, rounds: int, gap: float) -> list[InjectedFault]:
    """Yield every kind of fault once in each round, in an order of its own.

    They are `gap` seconds apart on average, twice that after what takes long to come back. They overlap wherever one
    lasts longer than the pause after it.
    """
    random = Random(seed)
    faults = []
    for _ in range(rounds):
        kinds = list(KINDS)
        random.shuffle(kinds)
        before = ""
        for kind in kinds:
            stretch = 2 if before.endswith(HEAVY) else 1
            pause = stretch * gap * random.uniform(0.5, 1.5)
            faults.append(InjectedFault(kind, pause, random.uniform(*KINDS[kind]), random.random()))
            before = kind
    return faults
