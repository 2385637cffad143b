"""The story of one job, top to bottom, as an RQ work-horse tells it.

Fetch the keyframes, have the engine (or, for `flow`, this process) make the frames, encode, store, commit. How each
ending is written down stands in `run`. Imports no torch: a work-horse never touches the GPU.
"""

from __future__ import annotations

import itertools
import os
import signal
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import structlog

from mpd import doubts, flow, photographs
from mpd.encoded import Encoded
from mpd.lengths import FLOW_SIZE_MULTIPLE, delivered_frames, flow_size, shown_keyframes
from mpd.methods import FLOW_FRAMES, METHODS, Settings, SettingsError
from mpd.output import clip
from mpd.output.compositing import Compositor
from mpd.output.formats import any_alpha, sample_bits
from mpd.photographs import KeyframeError
from mpd.progress import MotionReport, Pictures, Take
from service import machine
from service.database.connections import connect
from service.database.identity import open_database
from service.fleet import engines
from service.jobs import accepted, capacity, spans
from service.jobs.options import settings_of
from service.jobs.record import Job, JobError
from service.jobs.replay import request_of
from service.jobs.store import Jobs
from service.observe import logs, tracing
from service.problems import Problem
from service.settings import ServiceSettings
from service.storage import ObjectDamaged, Storage, StorageFull, StorageUnavailable, open_storage
from service.validation import from_settings
from worker.engine import held, previews, protocol
from worker.process import fitness, parent_death
from worker.task import artifacts, engine_client
from worker.task.lease import Interrupted, Lease, Reason, holder
from worker.task.reporter import Reporter
from worker.task.retrying import patiently, persist
from worker.task.threads import ThreadGroup

_FETCHES = 4
"""Keyframes that are fetched at once."""

ELSEWHERE_SECONDS = 2.0
"""Before a job that the engine here refuses goes back to the queue, as another engine's workers may be busy; twice as
long each time."""
LONGEST_ELSEWHERE = 30.0

NO_ROOM = "The storage had no room for the result."

KEYFRAME_LOST = "The storage does not have a keyframe of this job as it was accepted."

log = structlog.get_logger("task")

T = TypeVar("T")


def run(job_id: str, attempt: int) -> None:
    """Run one attempt of one job: RQ's entry point."""
    parent_death.die_with_parent(os.getppid())
    # Some supervisors send SIGTERM to every process there is; when a job must be given back, the launcher says.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    settings = ServiceSettings()
    logs.configure(settings)
    tracing.start(settings, "worker")
    try:
        _run(settings, job_id, attempt)
    finally:
        # A work-horse ends by os._exit, which runs no farewells.
        tracing.stop()


def _run(settings: ServiceSettings, job_id: str, attempt: int) -> None:
    structlog.contextvars.bind_contextvars(job=job_id, attempt=attempt)
    connection = connect(settings)
    jobs = Jobs(connection, settings, open_database(connection, settings))
    try:
        job = persist(jobs.start, job_id, attempt, holder(os.getpid()))
    except JobError as refusal:
        log.info("nothing to do", reason=str(refusal))
        return
    structlog.contextvars.bind_contextvars(trace=tracing.trace_id(job.traceparent))
    with spans.attempt(job), Lease(jobs, job_id, attempt) as lease:
        try:
            settle(job, jobs, lease)
        except JobError as refusal:
            log.info("too late", reason=str(refusal))
            persist(lease.settle, Reason.superseded)


def settle(job: Job, jobs: Jobs, lease: Lease) -> None:
    """Make the job's result and commit it, or write down how it ended instead."""
    try:
        result = _on_a_machine(make, job, jobs, lease)
    except Interrupted as stop:
        log.info("stopped", reason=stop.reason)
        persist(lease.settle, stop.reason)
    except machine.RanOut as fault:
        log.exception("the machine failed")
        _give_back(job, jobs, str(fault))
    except Problem as problem:
        log.info("refused", problem=problem.slug, field=problem.field, detail=problem.detail)
        persist(jobs.fail, job.id, job.attempt, problem.to_dict(), False)
    except engine_client.EngineDied as death:
        log.warning("the engine died", detail=str(death))
        persist(jobs.died, job.id, job.attempt, "engine")
    except StorageFull as full:
        # Given back, it would make the same files again only to find no room for them again.
        log.error("no room for the result", error=str(full))
        persist(jobs.fail, job.id, job.attempt, Problem(507, "storage-full", NO_ROOM).to_dict(), False)
    except ObjectDamaged as damage:
        log.error("a keyframe is not what was accepted", error=str(damage))
        persist(jobs.fail, job.id, job.attempt, Problem(500, "keyframe-lost", KEYFRAME_LOST).to_dict(), False)
    except Elsewhere as refusal:
        log.info("left to another engine", reason=str(refusal))
        _leave(job, jobs, lease)
    except (engine_client.EngineAway, StorageUnavailable) as outage:
        log.warning("given back", reason=f"{type(outage).__name__}: {outage}")
        persist(jobs.release, job.id, job.attempt)
    except Exception as error:
        log.exception("failed")
        # What it says may be of this machine, such as a path: that is for the log.
        failure = Problem(500, "generation-failed", f"{type(error).__name__} in the worker.")
        persist(jobs.fail, job.id, job.attempt, failure.to_dict(), True)
    else:
        with tracing.span("job.commit"):
            persist(jobs.succeed, job.id, job.attempt, result)


class Elsewhere(Exception):
    """The engine here refuses the job, and another one that is live can run it."""


def _others_can(job: Job, jobs: Jobs, settings: Settings) -> bool:
    """Tell whether a job that the engine here has refused could be run by one that has not."""
    if not METHODS[settings.method].needs_engine:
        return False
    live = persist(engines.live, jobs.redis, jobs.settings)
    refused = {*job.refusals, fitness.worker_name()}
    return bool(capacity.others(settings, len(job.keyframes), live, but=refused))


def _leave(job: Job, jobs: Jobs, lease: Lease) -> None:
    """Give the job to whoever can run it; not at once, so that it does not come back here all the time."""
    times = job.refusals.get(fitness.worker_name(), 0)
    try:
        lease.wait(min(ELSEWHERE_SECONDS * 2**times, LONGEST_ELSEWHERE))
    except Interrupted as stop:
        persist(lease.settle, stop.reason)
    else:
        persist(jobs.release, job.id, job.attempt, fitness.worker_name())


def _on_a_machine(work: Callable[..., T], *arguments: object) -> T:
    """Return what `work` gives.

    Raises `machine.RanOut` for all that is the machine's fault, whatever it was taken for.
    """
    try:
        return work(*arguments)
    except Interrupted:
        raise
    except Exception as error:
        if (why := machine.fault(error)) is not None:
            raise machine.RanOut(why) from error
        raise


def _give_back(job: Job, jobs: Jobs, why: str) -> None:
    """Give the job back after the machine failed, and tell whether the job may be what wanted more than there is.

    What the attempt took is free again: is the machine well now, then it may have been the job.
    """
    fitness.report(why)
    counts = machine.trouble() is None
    left = bool(persist(fitness.others, jobs, job) - job.faults.keys())
    persist(jobs.ran_out, job.id, job.attempt, fitness.worker_name(), why, counts, left)


def make(job: Job, jobs: Jobs, lease: Lease) -> dict[str, Any]:
    """Make the result of a job and store it. Raises `Problem` for what its caller must change."""
    storage = patiently(lease.wait, open_storage, jobs.settings, jobs.redis)
    earlier = patiently(lease.wait, artifacts.committed, storage, job.id, job.attempt)
    if earlier is not None:
        return earlier
    with closing(Reporter(job, jobs, lease)) as report:
        return _made(job, jobs, lease, storage, report)


def _made(job: Job, jobs: Jobs, lease: Lease, storage: Storage, report: Reporter) -> dict[str, Any]:
    report.stage("fetching")
    # All that takes tell is equal in all of them.
    motion = interpolator = None
    groups: tuple[tuple[int, ...], ...] = ()
    buckets: tuple[int, ...] = ()
    motions: tuple[MotionReport | None, ...] = ()
    settings = _settings(job)
    if fitness.worker_name() in job.refusals and _others_can(job, jobs, settings):
        raise Elsewhere("it was refused here before")
    prefix = artifacts.attempt_prefix(job.id, job.attempt)
    with (
        tempfile.TemporaryDirectory(prefix="attempt-") as folder,
        artifacts.Artifacts(storage, prefix, Path(folder), lease.check, lease.wait) as files,
    ):
        try:
            pictures = _keyframes(job, storage, lease, Path(folder))
            over = pictures.with_background(settings)
            model, finish, events = _begin(job, over, pictures, jobs.settings, lease, report)
            with closing(events):
                for event in events:
                    lease.check()
                    if isinstance(event, engine_client.EngineReport):
                        report.heard(event)
                        continue
                    report.stage("encoding")
                    take = finish(event, lease.check)
                    motion, motions, interpolator = take.motion, take.motions, take.interpolator
                    groups, buckets = take.groups, take.motion_bucket_ids
                    files.encode(take.index, take.seed, clip.of(take), job.options["formats"])
                    report.stage("uploading")
                    files.store()
        except SettingsError as error:
            if _others_can(job, jobs, settings):
                raise Elsewhere(str(error)) from error
            raise from_settings(error) from error
        except KeyframeError as error:
            where = f"keyframes[{error.index}]"
            raise Problem(422, "invalid-image", error.problem, field=where, remedy=error.remedy) from error
        report.stage("uploading")
        report.count()
        return files.commit(
            request_of(job.id, job.options, job.keyframes),
            job=job.id,
            attempt=job.attempt,
            settings=settings.spelled_out((model or {}).get("own_steps")),
            model=model,
            interpolator=interpolator,
            background=over.background,
            motion=asdict(motion) if motion is not None else None,
            warnings=doubts.doubts(motions, job.options["formats"], pictures, str(over.background)),
            keyframes=_shown(job, finish),
            groups=groups,
            motion_bucket_ids=buckets,
            timings=report.seconds(),
            gpu_seconds=round(report.gpu_seconds(), 3),
        )


def _shown(job: Job, finish: Compositor) -> list[dict[str, Any]]:
    """Say in which frame of the video each keyframe is shown; None for one that the method shows nowhere."""
    shown = itertools.zip_longest(job.keyframes, shown_keyframes(finish.settings, finish.lengths))
    return [{"sha256": keyframe["sha256"], "frame": frame} for keyframe, frame in shown]


def _settings(job: Job) -> Settings:
    """Read what the job asks of the sampler.

    Raises `Elsewhere` the first time for what only a newer release knows.
    """
    try:
        return settings_of(job.options)
    except SettingsError as error:
        if fitness.worker_name() in job.refusals:
            raise from_settings(error) from error
        raise Elsewhere(str(error)) from error


def _keyframes(job: Job, storage: Storage, lease: Lease, folder: Path) -> Encoded:
    """Fetch the keyframes' files into `folder`."""

    def fetched(index: int, keyframe: dict[str, Any]) -> Path:
        path = folder / f"keyframe-{index}"
        data = patiently(group.wait, accepted.read, storage, keyframe)
        try:
            photographs.check_head(data)  # what is no picture ends the job before the others are fetched
        except KeyframeError as error:
            error.index = index
            raise
        path.write_bytes(data)
        return path

    with ThreadGroup[Path](_FETCHES, lease.check, lease.wait) as group:
        for index, one in enumerate(job.keyframes):
            group.submit(fetched, index, one)
        return Encoded(group.results())


Events = Generator[engine_client.EngineReport | Take, None, None]


def _begin(
    job: Job, settings: Settings, images: Encoded, service_settings: ServiceSettings, lease: Lease, report: Reporter
) -> tuple[dict[str, Any] | None, Compositor, Events]:
    """Begin a job, and give the model, what becomes of the takes, and the running job."""
    formats = job.options["formats"]
    bits, matte = sample_bits(formats), any_alpha(formats)
    method = METHODS[settings.method]
    if not method.needs_model:
        size = flow_size(images.first_size, settings.width, settings.height)
        pictures, frame = images.prepare(settings, native_size=size, size_multiple=FLOW_SIZE_MULTIPLE)
        finish = Compositor(images, settings, frame, delivered_frames(settings, len(images), FLOW_FRAMES), matte)
        _check_length(finish, formats, service_settings)
        if not method.needs_engine:
            return None, finish, _flow(finish.with_mattes(pictures), settings, bits)
    if not held.anything(service_settings):
        raise SettingsError("method", f"{settings.method} needs an engine, and there is none here", "Choose flow")
    if service_settings.engine_dir is None:
        raise RuntimeError("ENGINE_DIR is not set: start workers with `inbetween-server worker`")
    path = protocol.socket_path(service_settings.engine_dir)
    trace = tracing.current() or job.traceparent
    report.stage("waiting")
    holds = _of_engine(engine_client.capabilities, path, lease, settings.method)
    if method.needs_model:
        width, height = holds["native_size"]
        pictures, frame = images.prepare(settings, native_size=(width, height), size_multiple=holds["size_multiple"])
        lengths = delivered_frames(settings, len(images), holds["native_frames"])
        finish = Compositor(images, settings, frame, lengths, matte)
        _check_length(finish, formats, service_settings)
    seen = finish.with_mattes(pictures)
    return holds, finish, _sampled(engine_client.sample(path, job.ticket, seen, settings, bits, lease, trace))


def _check_length(finish: Compositor, formats: list[str], service_settings: ServiceSettings) -> None:
    """Refuse what is too long to hold, where the API could not know: by a model's own size, or a matte.

    All else that is too long the API refuses.
    """
    size, bytes_each = (finish.frame.width, finish.frame.height), capacity.pixel_bytes(formats, finish.keeps_matte)
    capacity.check_length(finish.settings, finish.lengths, size, service_settings, bytes_each)


def _sampled(events: Events) -> Events:
    """Give the engine's events, its refusals raised as what they mean for the job."""
    with closing(events):
        try:
            yield from events
        except engine_client.EngineError as error:
            raise _refusal(error) from error


def _of_engine(ask: Callable[..., T], *arguments: object) -> T:
    """Return what the engine answers, its refusal raised as what it means for the job."""
    try:
        return ask(*arguments)
    except engine_client.EngineError as error:
        raise _refusal(error) from error


def _refusal(error: engine_client.EngineError) -> Exception:
    return error if error.kind != "bad-input" else SettingsError(error.field or "", error.detail, error.remedy or "")


def _flow(pictures: list[Pictures], settings: Settings, bits: int) -> Events:
    """Compute optical flow in this process, told like an engine's job."""
    previewed = time.monotonic()
    for event in flow.generate(pictures, settings, bits):
        if isinstance(event, Take):
            yield event
            continue
        preview = None
        if time.monotonic() - previewed >= previews.SECONDS_BETWEEN:
            previewed = time.monotonic()
            picture = event.preview()
            preview = previews.jpeg(picture) if picture is not None else None
        yield engine_client.EngineReport("sampling", protocol.numbers(event), preview)
