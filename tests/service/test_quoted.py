"""Long texts of a JSON body: cut out where they stand, read in pieces, refused where they cost more than they say."""

from __future__ import annotations

import base64
import contextlib
import json
import random
import tracemalloc
from typing import Any

import pytest

from service.api.intake import data_uris
from service.api.intake.quoted import LONG, LONG_URI, MOST_REST, PIECE, Quoted, cut
from service.api.intake.request_body import _from_json
from service.problems import Problem
from service.settings import ServiceSettings
from tests.service.conftest import Api, problem
from trials.pictures import photo

SETTINGS = ServiceSettings(_env_file=None)
DATA = random.Random(1).randbytes(700_000)
URI = "data:image/png;base64," + base64.b64encode(DATA).decode()

SPELLINGS = {
    "as it is": json.dumps(URI),
    "as PHP has it": json.dumps(URI).replace("/", "\\/"),
    "as .NET has it": json.dumps(URI).replace("+", "\\u002B"),
    "all of it escaped": '"' + "".join(f"\\u{ord(character):04x}" for character in URI) + '"',
    "for a URL": json.dumps(URI.replace("+", "%2B").replace("/", "%2f").replace("=", "%3D")),
    "in lines": json.dumps("\r\n ".join(URI[at : at + 76] for at in range(0, len(URI), 76))),
}


def quoted(text: str) -> Quoted:
    """The text, given as JSON writes it."""
    body = text.encode()
    return Quoted(body, 1, len(body) - 1)


@pytest.mark.parametrize("name", SPELLINGS)
def test_an_image_is_the_same_however_it_is_spelled(name: str) -> None:
    body = b'{"start": %b, "end": "x"}' % SPELLINGS[name].encode()
    [source, end] = [picture.source for picture in _from_json(bytearray(body)).pictures]
    assert isinstance(source, Quoted)
    assert end == "x"
    assert data_uris.decode(source, SETTINGS) == DATA
    assert data_uris.digest(source, SETTINGS) == data_uris.digest(URI, SETTINGS)


@pytest.mark.parametrize("shift", range(13))
def test_no_escape_is_broken_between_two_pieces(shift: int) -> None:
    said = "a" * (PIECE - shift) + '\\"+é\n/"' * 3 + "b" * PIECE
    ascii_only = said.replace("é", "e")
    assert b"".join(quoted(json.dumps(ascii_only)).pieces()).decode() == ascii_only
    escaped = json.dumps(ascii_only).replace("+", "\\u002b").replace("/", "\\/")
    assert b"".join(quoted(escaped).pieces()).decode() == ascii_only
    with pytest.raises(ValueError, match="ascii"):
        list(quoted(json.dumps(said)).pieces())


def test_what_is_left_is_the_body_with_stand_ins() -> None:
    body = json.dumps(
        {"a": URI, "b\\": 'x\\"y', "c": [URI + "AA", "short"], "d": {"e": "z" * (LONG - 2) + "\\"}}
    ).encode()
    text, long = cut(body)
    found = json.loads(text)
    assert [*long] == [found["a"], found["c"][0]], "a text of just so many bytes stays"
    assert found["b\\"] == 'x\\"y'
    assert found["c"][1] == "short"
    assert found["d"]["e"] == "z" * (LONG - 2) + "\\"
    assert b"".join(long[found["a"]].pieces()).decode() == URI
    assert b"".join(long[found["c"][0]].pieces()).decode() == URI + "AA"
    assert cut(body)[1].keys().isdisjoint(long), "nobody can guess a stand-in"


@pytest.mark.parametrize(
    "body",
    [
        {"start": "x", "end": "y", "options": {"reference": URI}},
        {"start": "x", "end": "y", "options": {"reference": "z" * 600_000}},
        {"start": "x", "end": "y", "options": {"webhook": {"url": "https://" + "z" * 600_000}}},
        {"start": "x", "end": "y", URI: 1},
        {"keyframes": [{"image": "x", "sha256": URI}, {"image": "y"}]},
    ],
)
def test_a_long_text_is_too_long_for_every_other_field(body: dict[str, Any]) -> None:
    with pytest.raises(Problem) as caught:
        _from_json(bytearray(json.dumps(body).encode()))
    assert (caught.value.status, caught.value.slug) == (422, "invalid-request")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b" " * (MOST_REST + 1), 422),
        (b'{"options":{"seed":' + b"1" * (MOST_REST + 1) + b"}}", 422),
        (b'{"options":{"seed":1.' + b"1" * (MOST_REST + 1) + b"}}", 422),
        (b'{"result":' + b"[" * (MOST_REST + 1), 422),
        (b"[" + b'"",' * 1_000_000 + b"1]", 422),
        (b'{"start":"' + b'\\"' * 1_000_000 + b'"}', 422),
        (b'{"start":"' + b"\\" * 5_000_000 + b'"}', 422),
        (b'{"start":"' + b"\\" * 5_000_001, 400),
        (b'{"start":"' + b"a" * 5_000_000, 400),
        (b"[" + ",".join(['"' + "a" * LONG + 'b"'] * 41).encode() + b"]", 422),
    ],
)
def test_what_would_take_long_to_parse_is_refused(body: bytes, status: int) -> None:
    with pytest.raises(Problem) as caught:
        _from_json(bytearray(body))
    assert caught.value.status == status, caught.value.detail
    assert caught.value.field
    assert caught.value.remedy


@pytest.mark.parametrize("unit", ["%41", "AB ", "\\u0041", "\\ud83d\\ude00", "é", "😀", "\\n", "A"])
def test_no_more_is_held_than_a_few_pieces_and_the_image(unit: str) -> None:
    """Measured on what Python allocates, whatever the text is made of."""
    body = bytearray(b'{"start":"data:;base64,' + unit.encode() * (12_000_000 // len(unit.encode())) + b'","end":"x"}')
    tracemalloc.start()
    try:
        picture = _from_json(body).pictures[0]
        source = picture.source
        assert isinstance(source, Quoted)
        size = 0
        with contextlib.suppress(Problem):
            size = len(data_uris.decode(source, SETTINGS))
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 1.2 * size + 4 * PIECE + 1_000_000


def test_a_percent_sign_that_is_no_encoders_is_refused(api: Api) -> None:
    body = b'{"start":"data:image/png;base64,' + b"%41" * 100_000 + b'","end":"x"}'
    answer = api.client.post("/inbetween", content=body, headers={"Content-Type": "application/json"})
    found = problem(answer, 422, "invalid-image")
    assert found["field"] == "start"
    assert "base64" in found["remedy"]


@pytest.mark.parametrize("path", ["/inbetween", "/v1/videos"])
def test_large_images_as_text_make_a_job(api: Api, path: str) -> None:
    noise = photo(512, 512, format="BMP")
    # A PNG that is followed by so much that its text is long.
    uri = "data:image/png;base64," + base64.b64encode(photo() + noise).decode()
    assert len(uri) > LONG_URI
    names = ("start", "end") if path == "/inbetween" else ("input_reference", "end")
    options = {"options": {"method": "flow"}} if path == "/inbetween" else {"model": "flow"}
    first, second = (
        api.client.post(path, json={**dict.fromkeys(names, uri), **options}, headers={"Idempotency-Key": path})
        for _ in range(2)
    )
    assert first.status_code in (200, 202), first.text
    assert first.json()["id"] == second.json()["id"]
    job = api.jobs.get(first.json()["id"])
    assert job is not None
    assert [api.storage.get(keyframe["key"]) for keyframe in job.keyframes] == [photo() + noise] * 2


def test_a_long_text_that_is_no_image_is_refused_by_name(api: Api) -> None:
    answer = api.client.post("/inbetween", json={"start": "https://example.com/" + "a" * 600_000, "end": "x"})
    assert problem(answer, 422, "invalid-url")["field"] == "start"
