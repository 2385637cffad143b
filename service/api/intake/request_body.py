"""The body of `POST /inbetween` in both its forms, read into one `Wanted`.

Knows the shape of a request and nothing of what the images are or where they come from: a picture is bytes that came
in the form, or a reference (URL, data URI, `upload:ID`, `job:ID/0`) still to be followed.
"""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from anyio import to_thread
from pydantic import ValidationError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from mpd.lengths import delivered_frames
from mpd.methods import FLOW_FRAMES, LIMITS, Settings, SettingsError
from service.api.intake.byte_budget import Hold
from service.api.intake.data_uris import is_data_uri
from service.api.intake.keyframe_check import check_size
from service.api.intake.quoted import Quoted, cut
from service.jobs.option_fields import MethodName
from service.jobs.options import InbetweenRequest, Keyframe, Options
from service.problems import Problem
from service.settings import ServiceSettings
from service.validation import FieldFault, from_pydantic, from_settings, refused

_FORM_FIELDS = ("start", "end", "keyframes", "at", "options")
_MOST_KEYFRAMES = int(LIMITS["keyframes"].high)
_DATA_URI_HEAD = 1024
"""Bytes of a data URI that are not the image."""
_LONGEST_OPTIONS = 1 << 20
_LONG_TEXT = 65_536
_BOUNDARY = re.compile(r'[^"\\\r\n]{1,70}')
_MOST_VALUES = 5_000
"""In the JSON of one request; the largest that can be right has some two hundred."""


ImageSource = bytes | str | Quoted


@dataclass(frozen=True)
class ReceivedImage:
    """One keyframe as it came: its bytes, or a reference to them."""

    #: Its bytes, or text, which if long stays where it is in the body.
    source: ImageSource
    #: Its name in the request.
    field: str
    #: What the file's has to be, if the request says.
    sha256: str | None = None

    @property
    def enclosed(self) -> bool:
        """Whether the image itself came with the request."""
        return isinstance(self.source, bytes) or is_data_uri(self.source)


@dataclass(frozen=True)
class Wanted:
    """A request that is right in itself."""

    pictures: tuple[ReceivedImage, ...]
    #: The frame of each keyframe, when the request says.
    positions: tuple[int, ...] | None
    options: Options
    #: What `mpd` will be asked for, once the request names a method or `with_method` has given it one.
    settings: Settings

    def with_method(self, name: MethodName) -> Wanted:
        """Give the request as it is made by this method, unless it names one itself. Raises `Problem` as `read`."""
        if self.options.method is not None:
            return self
        return _wanted(self.pictures, self.positions, self.options.model_copy(update={"method": name}))


async def read(request: Request, service: ServiceSettings, hold: Hold) -> Wanted:
    """Read what a request wants from its body. hold: grows with a body whose length was not announced.

    Raises `Problem`: 400 for a broken body, 413 for a text field larger than any image may be, 415 for another content
    type, 422 naming every field at fault.
    """
    if is_json(request):
        return await to_thread.run_sync(_from_json, await whole(request, hold))
    return await _from_form(request, service, hold)


def announced(request: Request) -> int:
    """Return the bytes of the body, as far as its headers say."""
    length = request.headers.get("content-length", "")
    return int(length) if length.isdecimal() else 0


async def whole(request: Request, hold: Hold) -> bytearray:
    """Read all of the body, once."""
    body = bytearray()
    async for piece in pieces(request, hold):
        body += piece
    return body


async def pieces(request: Request, hold: Hold) -> AsyncGenerator[bytes, None]:
    """Give the body as it comes, held."""
    seen = 0
    async for piece in request.stream():
        seen += len(piece)
        hold.reach(seen)
        yield piece


def is_json(request: Request) -> bool:
    """Tell whether the body is JSON, else a form. Raises `Problem` 415 when it is neither."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type in ("application/json", "multipart/form-data"):
        return content_type == "application/json"
    detail = f"The body is {content_type[:80]!r}." if content_type else "The request has no Content-Type."
    remedy = "Send `multipart/form-data` with the images as files, or `application/json`."
    raise Problem(415, "unsupported-media-type", detail, remedy=remedy)


class _FormParser(MultiPartParser):
    """Files stay in memory, where they have room: the disk of this machine may be full, or slow.

    A long text is plain ASCII, or it would be held in Python's widest form. All of a form is UTF-8, whatever its
    Content-Type says: RFC 7578 knows no `charset` there.
    """

    spool_max_size = sys.maxsize

    def on_part_end(self) -> None:
        part = self._current_part
        if part.file is None and len(part.data) > _LONG_TEXT and not part.data.isascii():
            raise MultiPartException(f"A text field of more than {_LONG_TEXT} bytes has other characters than ASCII.")
        super().on_part_end()


@asynccontextmanager
async def open_form(request: Request, service: ServiceSettings, hold: Hold) -> AsyncIterator[FormData]:
    """Read the form's fields; its files last as long as the block. Raises `Problem` 400, and 413 for a long text."""
    longest = 4 * -(-service.max_image_bytes // 3) + _DATA_URI_HEAD
    # One more of each than any request needs, so that one too many is refused by name.
    files = _MOST_KEYFRAMES + len(_FORM_FIELDS)
    headers = Headers({"content-type": f'multipart/form-data; boundary="{_boundary(request)}"'})
    parser = _FormParser(headers, pieces(request, hold), max_files=files, max_fields=2 * files, max_part_size=longest)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if error.message.startswith("Part exceeded"):
            detail = f"A text field of the form has more than {longest} bytes."
            raise Problem(413, "body-too-large", detail, remedy="Send the image as a file.", limit=longest) from None
        raise _malformed(error.message) from None
    try:
        yield form
    finally:
        await form.close()


def _boundary(request: Request) -> str:
    boundary = parse_options_header(request.headers["content-type"])[1].get(b"boundary", b"").decode("latin-1")
    if not _BOUNDARY.fullmatch(boundary):
        raise _malformed("The Content-Type has no boundary of at most 70 characters.")
    return boundary


def _malformed(reason: str) -> Problem:
    remedy = f"Send at most {_MOST_KEYFRAMES} keyframes, in a form as an HTTP client builds it."
    return Problem(400, "malformed-body", f"The form cannot be read: {reason}", remedy=remedy)


async def file_bytes(part: UploadFile, service: ServiceSettings, field: str) -> bytes:
    """Take the bytes of a file of a form, which it has not any more.

    Raises `Problem` 413 for more than an image may have.
    """
    check_size(part.size or 0, service, field)
    data = await part.read()
    # Or there would be two of each until the last one is read.
    await part.close()
    return data


def _from_json(body: bytearray) -> Wanted:
    text, long = cut(body)
    refuse_many_values(text, "body")
    try:
        asked = InbetweenRequest.model_validate_json(text)
    except ValidationError as error:
        raise _invalid(error, InbetweenRequest) from None
    if asked.keyframes is not None:
        pictures = [
            ReceivedImage(long.get(keyframe.image, keyframe.image), f"keyframes[{i}].image", keyframe.sha256)
            for i, keyframe in enumerate(asked.keyframes)
        ]
        _refuse_two_forms(asked.start or asked.end)
        return _wanted(pictures, _positions(asked.keyframes), asked.options)
    ends = [(image, name) for name, image in (("start", asked.start), ("end", asked.end)) if image is not None]
    return _wanted([ReceivedImage(long.get(image, image), name) for image, name in ends], None, asked.options)


async def _from_form(request: Request, service: ServiceSettings, hold: Hold) -> Wanted:
    async with open_form(request, service, hold) as form:
        _refuse_unknown(form)
        options = await to_thread.run_sync(_options, form.getlist("options"))
        named = {name: await _pictures(form, name, service) for name in ("start", "end", "keyframes")}
        positions = _at(form.getlist("at"), len(named["keyframes"]))
    for name in ("start", "end"):
        if len(named[name]) > 1:
            raise refused([FieldFault(name, "This field comes more than once.", "Send it once, or use `keyframes`.")])
    if named["keyframes"]:
        _refuse_two_forms(named["start"] or named["end"])
        return _wanted(named["keyframes"], positions, options)
    return _wanted(named["start"] + named["end"], None, options)


async def _pictures(form: FormData, name: str, service: ServiceSettings) -> list[ReceivedImage]:
    parts = form.getlist(name)
    fields = [f"{name}[{i}]" for i in range(len(parts))] if name == "keyframes" else [name] * len(parts)
    found = []
    for field, part in zip(fields, parts, strict=True):
        source = await file_bytes(part, service, field) if isinstance(part, UploadFile) else part
        if not source:
            raise refused([FieldFault(field, "This field is empty.", "Send the image as a file, or a URL as text.")])
        found.append(ReceivedImage(source, field))
    return found


def _refuse_unknown(form: FormData) -> None:
    known = ", ".join(_FORM_FIELDS)
    unknown = [name for name in form if name not in _FORM_FIELDS]
    if unknown:
        remedy = f"Remove it. Known fields: {known}."
        raise refused([FieldFault(name[:80] or "body", "There is no such field.", remedy) for name in unknown])


def _refuse_two_forms(start_or_end: object) -> None:
    if start_or_end:
        raise refused(
            [FieldFault("keyframes", "`keyframes` and `start` or `end` both name images.", "Send one of the two.")]
        )


def _options(parts: Sequence[UploadFile | str]) -> Options:
    """Read the form's `options`, a JSON object as text or as a file of type application/json."""
    if len(parts) > 1:
        raise refused([FieldFault("options", "This field comes more than once.", "Send one JSON object.")])
    if not parts:
        return Options()
    part = parts[0]
    text = part.encode() if isinstance(part, str) else part.file.read(_LONGEST_OPTIONS + 1)
    if len(text) > _LONGEST_OPTIONS:
        remedy = "Send only the options that `GET /methods` lists."
        raise refused([FieldFault("options", f"They have more than {_LONGEST_OPTIONS} bytes.", remedy)])
    refuse_many_values(text, "options")
    try:
        return Options.model_validate_json(text)
    except ValidationError as error:
        raise _invalid(error, Options, "options") from None


def refuse_many_values(text: bytes | bytearray, field: str) -> None:
    """Refuse a JSON text of very many values.

    Each unknown field and each wrong value costs memory and time to describe, a thousand times its bytes.
    """
    if text.count(b",") > _MOST_VALUES:
        remedy = "Send only the fields that the reference under `/docs` lists."
        raise refused([FieldFault(field, f"The JSON has more than {_MOST_VALUES} values.", remedy)])


def _at(parts: Sequence[UploadFile | str], keyframes: int) -> tuple[int, ...] | None:
    """Read the frame numbers of a form, one `at` for each of `keyframes`."""
    if not parts:
        return None
    if len(parts) != keyframes:
        remedy = "Send one `at` for each of `keyframes`, in the same order, or none."
        raise refused([FieldFault("at", f"{len(parts)} frame numbers came with {keyframes} `keyframes`.", remedy)])
    numbers = []
    for i, part in enumerate(parts):
        if not isinstance(part, str) or not part.isascii() or not part.isdecimal() or len(part) > 6:
            raise refused([FieldFault(f"at[{i}]", "This is no frame number.", "Send a whole number from 0.")])
        numbers.append(int(part))
    return tuple(numbers)


def _positions(keyframes: Sequence[Keyframe]) -> tuple[int, ...] | None:
    given = [keyframe.frame for keyframe in keyframes if keyframe.frame is not None]
    if not given:
        return None
    if len(given) != len(keyframes):
        missing = next(i for i, keyframe in enumerate(keyframes) if keyframe.frame is None)
        remedy = "Give the frame of every keyframe, or of none."
        raise refused(
            [FieldFault(f"keyframes[{missing}].frame", "Other keyframes have a frame, this one has none.", remedy)]
        )
    return tuple(given)


def _wanted(pictures: Sequence[ReceivedImage], positions: tuple[int, ...] | None, options: Options) -> Wanted:
    if not pictures or pictures[0].field == "end":
        raise refused(
            [FieldFault("start", "The first keyframe is missing.", "Send `start` and `end`, or `keyframes`.")]
        )
    try:
        settings = options.settings(positions)
        delivered_frames(settings, len(pictures), FLOW_FRAMES)  # a model's own number is asked again at the engine
    except SettingsError as error:
        if error.field == "keyframes" and [picture.field for picture in pictures] == ["start"]:
            raise refused([FieldFault("end", f"{error.problem}.", "Send the end image too.")]) from None
        raise from_settings(error) from None
    return Wanted(tuple(pictures), positions, options, settings)


def _invalid(error: ValidationError, model: type[InbetweenRequest | Options], field: str = "") -> Problem:
    faults = error.errors(include_url=False, include_input=False)
    if faults[0]["type"] == "json_invalid":
        where = f"`{field}`" if field else "The body"
        reason = str(faults[0].get("ctx", {}).get("error", ""))[:200]
        remedy = "Send a JSON object in UTF-8."
        return Problem(400, "malformed-body", f"{where} is not JSON: {reason}.", field=field or None, remedy=remedy)
    return from_pydantic(faults, field, model)
