"""What a job would cost and how long it would wait, from figures that the engines measured.

Where nothing was measured there is no number: the value is None and a sentence says why. Knows nothing of HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mpd.lengths import delivered_frames, denoiser_calls, segment_frames, total_frames
from mpd.methods import METHODS, Settings, SettingsError
from service.fleet.engines import Engine
from service.jobs import capacity
from service.jobs.options import settings_of
from service.jobs.record import PRIORITIES, Job, State, split_ticket
from service.jobs.store import Jobs

_LOOKED_AT = 200
"""Queued jobs whose cost is added up one by one; of a longer queue the rest counts with their mean."""


@dataclass(frozen=True)
class Cost:
    """What one job costs, takes included. None where it cannot be known; `reason` says why."""

    #: Sampling steps.
    steps: int
    #: Each a conditional and an unconditional estimate.
    denoiser_calls: int
    #: Of one take.
    frames: int | None
    #: The keyframes that are sampled as one, by their numbers, for each latent.
    groups: Sequence[Sequence[int]] | None
    gpu_seconds: float | None
    reason: str | None


@dataclass(frozen=True)
class Queue:
    """What a new job would find in its lane."""

    lane: str
    #: Jobs that would run before it.
    ahead: int
    running: int
    engines: int
    #: Until it starts.
    wait_seconds: float | None
    reason: str | None


def cost(settings: Settings, keyframes: int, engine: Engine | None) -> Cost:
    """Estimate the cost of a job on the engine that would run it; None when none is ready. Raises `SettingsError`."""
    needs_model = METHODS[settings.method].needs_model
    known = capacity.segments_on(settings, keyframes, engine) if engine or not needs_model else None
    delivered = capacity.delivered_on(settings, keyframes, engine) if known else None
    if known is None and (settings.frames or settings.positions):
        known = segment_frames(settings, keyframes, settings.frames or 2)
        delivered = delivered_frames(settings, keyframes, settings.frames or 2)
    frames = total_frames(delivered, settings.loop) if delivered else None
    if not needs_model:
        return Cost(0, 0, frames, [], 0.0, f"{settings.method} uses no base model: it costs no GPU-seconds.")
    groups = capacity.groups_on(settings, keyframes, engine) if engine else None
    schedule, numbers = capacity.latents_on(settings, keyframes, engine, groups)
    latents = len(numbers)
    steps = (settings.steps or schedule.own_steps) * latents * len(settings.seeds)
    calls = denoiser_calls(settings, schedule, numbers) * len(settings.seeds)
    if engine is None or groups is None:
        return Cost(steps, calls, frames, None, None, "No engine is ready, so no speed is known.")
    joined = [part.keyframes(keyframes) for part in groups]
    size = capacity.size_on(settings, engine)
    if engine.seconds_per_call is None or size is None:
        return Cost(steps, calls, frames, joined, None, "The engine has not measured its speed yet.")
    megapixels = size[0] * size[1] / 1e6
    per_latent = calls / latents * engine.seconds_per_call * megapixels
    return Cost(steps, calls, frames, joined, round(per_latent * sum(part.length for part in groups), 3), None)


def queue(jobs: Jobs, lane: str, priority: str, engines: Sequence[Engine]) -> Queue:
    """Tell what a job of this lane and priority would find if it were submitted now."""
    lengths = jobs.queue_lengths()[lane]
    lines = PRIORITIES[: [*PRIORITIES].index(priority) + 1]  # type: ignore[arg-type]
    ahead = sum(lengths[line] for line in lines)
    current = [job for job in _running(jobs) if job.lane == lane]
    running = len(current)
    able = [engine for engine in capacity.ready(engines) if engine.holds_model or lane == "cpu"]
    if lane == "cpu":
        reason = None if ahead == 0 else "The time of CPU jobs is not measured."
        return Queue(lane, ahead, running, len(able), 0.0 if ahead == 0 else None, reason)
    if not able:
        return Queue(lane, ahead, running, 0, None, "No engine is ready.")
    waiting = _waiting(jobs, lane, lines, ahead)
    seconds = [_seconds(job, able[0]) for job in waiting]
    left = [_seconds(job, able[0], _left(job)) for job in current]
    known = [value for value in (*seconds, *left) if value is not None]
    if len(known) < len(seconds) + len(left):
        return Queue(lane, ahead, running, len(able), None, "An engine has not measured its speed yet.")
    total = sum(known) + (ahead - len(seconds)) * (sum(known) / len(known) if known else 0.0)
    return Queue(lane, ahead, running, len(able), round(total / len(able), 1), None)


def room(jobs: Jobs, lane: str, engines: Sequence[Engine]) -> float | None:
    """Estimate the seconds until the next job leaves the lane's queue; None if unknown.

    It leaves as the first of the running ones ends.
    """
    able = [engine for engine in capacity.ready(engines) if engine.holds_model]
    if lane == "cpu" or not able:
        return None
    left = [_seconds(job, able[0], _left(job)) for job in _running(jobs) if job.lane == lane]
    return round(min(seconds for seconds in left if seconds is not None), 1) if left and None not in left else None


def _seconds(job: Job, engine: Engine, share: float = 1.0) -> float | None:
    try:
        found = cost(settings_of(job.options), len(job.keyframes), engine).gpu_seconds
    except SettingsError:
        # A record of another version, whose options this one cannot read.
        return None
    return None if found is None else found * share


def _left(job: Job) -> float:
    """Return the share of a running job that is still to be done."""
    done = (job.progress or {}).get("fraction")
    return 1.0 - done if isinstance(done, int | float) and 0 <= done <= 1 else 1.0


def _waiting(jobs: Jobs, lane: str, lines: Sequence[str], ahead: int) -> list[Job]:
    tickets: list[str] = []
    for line in lines:
        room = min(ahead, _LOOKED_AT) - len(tickets)
        if room > 0:
            found = jobs.redis.zrange(jobs.keys.queued(lane, line), 0, room - 1)
            tickets += [ticket.decode() for ticket in found if isinstance(ticket, bytes)]
    return [job for job in jobs.get_many(split_ticket(ticket)[0] for ticket in tickets) if job.state is State.queued]


def _running(jobs: Jobs) -> list[Job]:
    found = jobs.redis.zrange(jobs.keys.running, 0, -1)
    names = [ticket.decode() for ticket in found if isinstance(ticket, bytes)]
    return jobs.get_many(split_ticket(name)[0] for name in names)
