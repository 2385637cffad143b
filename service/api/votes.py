"""Votes on videos that were judged blind, and their tally by method: the columns of the paper's user study.

Each owner has studies of its own, by name. A vote ranks videos made of the same keyframes; it is kept by method, so
that it counts on when the videos have expired. Knows nothing of HTTP, and not what the videos are.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from service.redis_keys import RedisKeys
from service.settings import ServiceSettings

if TYPE_CHECKING:
    from redis import Redis

MOST_VOTES = 10_000
"""Of one study; each takes about 300 bytes."""
MOST_STUDIES = 100


class TooMany(Exception):
    """The study, or the list of studies, is full."""


@dataclass(frozen=True)
class Vote:
    """What one person thinks of some videos. A voter has one vote on the same videos: the last."""

    voter: str
    #: Ids of the jobs.
    videos: tuple[str, ...]
    #: The methods of the videos, best first.
    order: tuple[str, ...]
    #: The methods whose videos have artifacts.
    artifacts: tuple[str, ...]
    #: The methods whose videos have unrealistic motion.
    unrealistic: tuple[str, ...]

    @property
    def name(self) -> str:
        """The same for every vote of this voter on these videos."""
        return hashlib.sha256("\n".join((self.voter, *sorted(self.videos))).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Standing:
    """How a method stands."""

    method: str
    votes: int
    #: From 1.
    mean_rank: float
    #: The shares of its votes that put it first, saw artifacts, and saw unrealistic motion, from 0 to 1.
    first: float
    artifacts: float
    unrealistic: float


class Votes:
    """Hashes `{namespace}:votes:{study}:{owner}` from a vote's name to the vote, and a set of each owner's studies."""

    def __init__(self, redis: Redis, settings: ServiceSettings) -> None:
        self._redis = redis
        self._keys = RedisKeys(settings.namespace)

    def cast(self, owner: str, study: str, vote: Vote) -> None:
        """Count a vote; it replaces the voter's earlier one on the same videos. Raises `TooMany`."""
        votes, studies = self._keys.votes(owner, study), self._keys.studies(owner)
        if self._redis.hlen(votes) >= MOST_VOTES and not self._redis.hexists(votes, vote.name):
            raise TooMany(f"A study holds {MOST_VOTES} votes.")
        if self._redis.scard(studies) >= MOST_STUDIES and not self._redis.sismember(studies, study):
            raise TooMany(f"There may be {MOST_STUDIES} studies.")
        kept = {"at": time.time(), "order": vote.order, "artifacts": vote.artifacts, "unrealistic": vote.unrealistic}
        with self._redis.pipeline() as pipe:
            pipe.hset(votes, vote.name, json.dumps(kept))
            pipe.sadd(studies, study)
            pipe.execute()

    def tally(self, owner: str, study: str) -> list[Standing]:
        """List all methods that were voted on, best first."""
        found: Any = self._redis.hvals(self._keys.votes(owner, study))
        return standings([json.loads(value) for value in found])

    def studies(self, owner: str) -> list[str]:
        """List the owner's studies in alphabetical order."""
        found: Any = self._redis.smembers(self._keys.studies(owner))
        return sorted(name.decode() for name in found)

    def erase(self, owner: str, study: str) -> None:
        """Remove a study with its votes, also from a Redis that is full."""
        # In no transaction, which a full Redis takes for something that needs room.
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.delete(self._keys.votes(owner, study))
            pipe.srem(self._keys.studies(owner), study)
            pipe.execute()


def standings(votes: Sequence[dict[str, Any]]) -> list[Standing]:
    """Compute from votes as they are kept how each method stands, by mean rank."""
    ranks: defaultdict[str, list[int]] = defaultdict(list)
    marks: dict[str, defaultdict[str, int]] = {name: defaultdict(int) for name in ("artifacts", "unrealistic")}
    for vote in votes:
        for rank, method in enumerate(vote["order"], 1):
            ranks[method].append(rank)
        for name, counted in marks.items():
            for method in vote[name]:
                counted[method] += 1
    found = [
        Standing(
            method=method,
            votes=len(own),
            mean_rank=sum(own) / len(own),
            first=own.count(1) / len(own),
            artifacts=marks["artifacts"][method] / len(own),
            unrealistic=marks["unrealistic"][method] / len(own),
        )
        for method, own in ranks.items()
    ]
    return sorted(found, key=lambda standing: (standing.mean_rank, standing.method))
