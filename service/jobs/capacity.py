"""What the engines at work can do, asked before a job is accepted.

A job that no live engine could ever run is refused here, with the limits it breaks. When no engine is ready nothing
is known, and the job waits. Knows nothing of HTTP or queues.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import cast

from mpd.lengths import FLOW_SIZE_MULTIPLE, Group, delivered_frames, flow_size, groups, segment_frames, total_frames
from mpd.methods import DEFAULT_METHOD, FLOW_FRAMES, METHODS, MOTION_BUCKET, Settings, SettingsError
from mpd.output.formats import sample_bits
from mpd.schedule import NUMBERS, SVD_XT, NoiseLevels
from service.fleet.engines import Engine, EngineState
from service.jobs.option_fields import MethodName
from service.problems import Problem
from service.settings import ServiceSettings

_PLAIN = 3
"""Bytes of a pixel of 8 bits a sample, which MAX_VIDEO_PIXELS means."""


def ready(engines: Sequence[Engine]) -> list[Engine]:
    return [engine for engine in engines if engine.state is EngineState.ready]


def size_on(settings: Settings, engine: Engine | None) -> tuple[int, int] | None:
    """Return (width, height) at which an engine would sample; None where neither the job nor the model says."""
    if settings.width is not None and settings.height is not None:
        return settings.width, settings.height
    return engine.native_size if engine is not None else None


def frame_size(settings: Settings, engine: Engine | None, picture: tuple[int, int]) -> tuple[int, int] | None:
    """Return (width, height) of the video's frames, of a job whose first keyframe has the size `picture`.

    None if unknown.
    """
    if METHODS[settings.method].needs_model:
        return size_on(settings, engine)
    return flow_size(picture, settings.width, settings.height)


def segments_on(settings: Settings, keyframes: int, engine: Engine | None) -> tuple[int, ...]:
    """Return the frames of each segment as an engine makes them, both ends included. `flow` needs none."""
    return segment_frames(settings, keyframes, _native_frames(settings, engine))


def groups_on(settings: Settings, keyframes: int, engine: Engine) -> tuple[Group, ...]:
    """Return which segments an engine samples as one."""
    size = size_on(settings, engine)
    most = _native_frames(settings, engine)
    if engine.max_volume and size:
        most = min(most, engine.max_volume // (size[0] * size[1]))
    return groups(settings, segments_on(settings, keyframes, engine), most)


def latents_on(
    settings: Settings, keyframes: int, engine: Engine | None, groups: Sequence[Group] | None
) -> tuple[NoiseLevels, list[float]]:
    """Return the noise levels that a job is sampled at, and the numbers of each latent.

    Until a model says what it joins each segment counts alone, and where it does not say them levels and sizes count as
    SVD-XT's.
    """
    schedule = (engine.schedule if engine is not None else None) or SVD_XT
    size = size_on(settings, engine)
    if groups is None:
        return schedule, [NUMBERS] * (keyframes if settings.loop else max(1, keyframes - 1))
    if engine is None or engine.latent_share is None or size is None:
        return schedule, [NUMBERS] * len(groups)
    return schedule, [engine.latent_share * size[0] * size[1] * part.length for part in groups]


def delivered_on(settings: Settings, keyframes: int, engine: Engine | None) -> tuple[int, ...]:
    """Return the frames of each segment of the finished video. Raises `Problem` where its rate has none for one."""
    try:
        return delivered_frames(settings, keyframes, _native_frames(settings, engine))
    except SettingsError as error:
        field = f"options.{error.field}"
        raise Problem(422, "beyond-capacity", f"{error.problem}.", field=field, remedy=f"{error.remedy}.") from error


def _native_frames(settings: Settings, engine: Engine | None) -> int:
    if METHODS[settings.method].needs_model:
        return (engine.native_frames if engine else None) or settings.frames or 2
    return FLOW_FRAMES


def pixel_bytes(formats: Sequence[str], matte: bool = False) -> int:
    """Return the bytes that a worker holds for each pixel of a take.

    matte: whether it has one beside its three colours.
    """
    return (4 if matte else 3) * sample_bits(formats) // 8


def check(
    settings: Settings,
    keyframes: int,
    engines: Sequence[Engine],
    service: ServiceSettings,
    formats: Sequence[str] = (),
) -> Engine | None:
    """Find the ready engine that would run the job; None when none is ready, or the method needs none.

    Raises `Problem` when every ready engine would have to refuse it, or when the video is too long to keep.
    """
    method = METHODS[settings.method]
    able = [engine for engine in ready(engines) if engine.holds_model or not method.needs_model]
    engine = None
    if method.needs_engine and able:
        with_method = [engine for engine in able if settings.method in engine.methods]
        if not with_method:
            raise _method_unavailable(settings, able)
        refusals = [(_refusal(settings, keyframes, engine), engine) for engine in with_method]
        engine = next((engine for refusal, engine in refusals if refusal is None), None)
        if engine is None:
            raise next(refusal for refusal, _ in refusals if refusal is not None)
    if not method.needs_model:
        _check_multiple(settings, FLOW_SIZE_MULTIPLE)
    size = size_on(settings, engine)
    if size is not None:
        check_length(settings, delivered_on(settings, keyframes, engine), size, service, pixel_bytes(formats))
    return engine


def check_picture(
    settings: Settings, keyframes: int, size: tuple[int, int], service: ServiceSettings, formats: Sequence[str] = ()
) -> None:
    """Refuse a `flow` video that is too long to keep at the size of its first keyframe. Raises `Problem`.

    It is as large as that picture, whose (width, height) `size` is, unless the job says otherwise.
    """
    if not METHODS[settings.method].needs_model and settings.width is None:
        segments, out = delivered_on(settings, keyframes, None), flow_size(size, None, None)
        check_length(settings, segments, out, service, pixel_bytes(formats))


def check_length(
    settings: Settings,
    segments: Sequence[int],
    size: tuple[int, int],
    service: ServiceSettings,
    bytes_each: int = _PLAIN,
) -> None:
    """Raise `Problem` when a take has too many frames for a worker, which holds those of one in memory at once.

    segments: frames of each. size: (width, height) of a frame. bytes_each: of a pixel (`pixel_bytes`).
    """
    frames = total_frames(segments, settings.loop)
    if frames * size[0] * size[1] * bytes_each > service.max_video_pixels * _PLAIN:
        most = service.max_video_pixels * _PLAIN // (size[0] * size[1] * bytes_each)
        depth = " with 16 bits a sample" if bytes_each >= 2 * _PLAIN else ""
        detail = f"{frames} frames of {size[0]}×{size[1]}{depth} are more than a worker keeps in memory."
        other = " without formats of more than 8 bits," if depth else ""
        remedy = f"At this size, ask for at most {most} frames in all,{other} or choose a smaller size."
        field = "keyframes" if settings.positions else "options.frames"
        raise Problem(422, "beyond-capacity", detail, field=field, remedy=remedy, limit=most)


def default_method(live: Sequence[Engine]) -> MethodName:
    """Give the method of requests that name none: what suits every model at work, else the library's default."""
    named = {engine.default_method for engine in live if engine.holds_model}
    [method] = named if len(named) == 1 else {None}
    return cast(MethodName, method if method in METHODS else DEFAULT_METHOD)


def _method_unavailable(settings: Settings, engines: Sequence[Engine]) -> Problem:
    has = {name for engine in engines for name in engine.methods}
    available = [name for name, method in METHODS.items() if name in has or not method.needs_engine]
    return Problem(
        422,
        "method-unavailable",
        f"No engine at work has the method {settings.method}.",
        field="options.method",
        remedy=f"Choose one of {', '.join(available)}.",
        available=available,
    )


def others(settings: Settings, keyframes: int, engines: Sequence[Engine], but: Collection[str]) -> list[Engine]:
    """Give the ready engines that could run the job, without those called `but`."""
    return [
        engine
        for engine in ready(engines)
        if engine.id not in but and settings.method in engine.methods and _refusal(settings, keyframes, engine) is None
    ]


def _refusal(settings: Settings, keyframes: int, engine: Engine) -> Problem | None:
    """Say why this engine cannot run the job; None where it can."""
    if not METHODS[settings.method].needs_model:
        return None
    if settings.motion_bucket_id == "auto" and engine.calibrated is False:
        detail = f"{engine.model} has no calibration that says what motion_bucket_id auto is."
        remedy = f"Send a number, such as {MOTION_BUCKET}."
        return Problem(422, "beyond-capacity", detail, field="options.motion_bucket_id", remedy=remedy)
    if settings.retimed and not any(METHODS[name].interpolator for name in engine.methods if name in METHODS):
        detail = "No engine at work holds an interpolator beside its model, which brings its frames to another rate."
        remedy = f"Leave output_fps out: the video then has {settings.fps} frames a second."
        return Problem(422, "beyond-capacity", detail, field="options.output_fps", remedy=remedy)
    size = size_on(settings, engine)
    try:
        _check_multiple(settings, engine.size_multiple)
    except Problem as refusal:
        return refusal
    if engine.max_pixels and size and size[0] * size[1] > engine.max_pixels:
        detail = f"{size[0]}×{size[1]} is more than the {engine.max_pixels} pixels a frame may have here."
        remedy = f"Ask for at most {engine.max_pixels} pixels a frame."
        return Problem(422, "beyond-capacity", detail, field="options.width", remedy=remedy, limit=engine.max_pixels)
    longest = max(segments_on(settings, keyframes, engine))
    if engine.max_frames and longest > engine.max_frames:
        field = "keyframes" if settings.positions else "options.frames"
        detail = f"A segment of {longest} frames is longer than the {engine.max_frames} that fit here."
        remedy = f"Ask for at most {engine.max_frames} frames a segment, or send more keyframes."
        return Problem(422, "beyond-capacity", detail, field=field, remedy=remedy, limit=engine.max_frames)
    if engine.max_volume and size and longest * size[0] * size[1] > engine.max_volume:
        return _too_much(settings, longest, size, engine.max_volume)
    return None


def _too_much(settings: Settings, frames: int, size: tuple[int, int], volume: int) -> Problem:
    """Say that the frames of a segment are together more than a GPU's memory holds."""
    most = volume // (size[0] * size[1])
    detail = f"A segment of {frames} frames of {size[0]}×{size[1]} is more than the memory here holds."
    if most < 2:
        remedy = f"Ask for at most {volume // 2} pixels a frame."
        return Problem(422, "beyond-capacity", detail, field="options.width", remedy=remedy, limit=volume // 2)
    field = "keyframes" if settings.positions else "options.frames"
    remedy = f"At this size, ask for at most {most} frames a segment, or choose a smaller size."
    return Problem(422, "beyond-capacity", detail, field=field, remedy=remedy, limit=most)


def _check_multiple(settings: Settings, multiple: int | None) -> None:
    for name, side in (("width", settings.width), ("height", settings.height)):
        if multiple and side and side % multiple:
            near = [end for end in (side - side % multiple, side - side % multiple + multiple) if end]
            remedy = f"Send {' or '.join(map(str, near))}."
            detail = f"The {name} must be a multiple of {multiple} for {settings.method}, and {side} is not."
            raise Problem(422, "beyond-capacity", detail, field=f"options.{name}", remedy=remedy)
