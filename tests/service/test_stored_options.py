"""What is stored keeps its meaning: between releases that run side by side, and when a default becomes another."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from pydantic import Field, ValidationError, create_model

from mpd.methods import METHODS, Settings, SettingsError
from service.jobs import baseline
from service.jobs.options import InbetweenRequest, Options, settings_of
from service.jobs.record import NewJob, decode, encode
from service.jobs.replay import request_of
from service.jobs.stored_options import complete
from tests.service.conftest import Api
from trials.fuzz.options import likely

thorough = hypothesis_settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))

FIRST: dict[str, Any] = {
    "method": "mpd-vibid",
    "frames": None,
    "positions": None,
    "steps": 25,
    "seeds": [0],
    "width": None,
    "height": None,
    "fit": "cover",
    "background": "#000000",
    "loop": False,
    "exact_keyframes": False,
    "fps": 7,
    "motion_bucket_id": 127,
    "noise_aug_strength": 0.02,
    "gamma": None,
    "k": None,
    "lam": None,
    "anchor": None,
    "handover": None,
    "guidance": None,
}
"""The defaults of the releases before records had a version: they fill a record's gaps with these."""
FIRST_METHODS: dict[str, dict[str, Any]] = {
    "svd": {"guidance": [1.0, 3.0]},
    "trf": {"guidance": [1.0, 3.0]},
    "vibid": {},
    "mpd-trf": {"gamma": 0.3, "k": 2, "lam": 0.5, "anchor": "rigid", "handover": 0.0, "guidance": [1.0, 3.0]},
    "mpd-vibid": {"gamma": 0.2, "k": 3, "lam": 1.0, "anchor": "rigid", "handover": 0.0},
    "mpd": {"gamma": 0.0, "k": 0, "lam": 1.0, "anchor": "closure"},
}

BEFORE: list[dict[str, Any]] = [
    {
        "background": "#000000",
        "exact_keyframes": False,
        "fit": "cover",
        "fps": 24,
        "loop": False,
        "method": "flow",
        "motion_bucket_id": 127,
        "noise_aug_strength": 0.02,
        "seeds": [0],
        "steps": 25,
        "formats": ["mp4"],
    },
    {
        "anchor": "pin",
        "background": "#204060",
        "exact_keyframes": True,
        "fit": "contain",
        "fps": 7,
        "gamma": 0.4,
        "guidance": [1.0, 2.5],
        "loop": True,
        "method": "mpd-trf",
        "motion_bucket_id": 127,
        "noise_aug_strength": 0.02,
        "positions": [0, 4, 9],
        "seeds": [3, 4],
        "steps": 30,
        "formats": ["mp4", "gif"],
        "reference": "shot-7",
    },
]
"""Options as the releases before wrote them: all that has a value, and no version."""


def written(options: dict[str, Any], keyframes: int = 2) -> dict[str, Any]:
    """What stands in the record of a job with these options."""
    job = NewJob("ann", options, [{}] * keyframes, "gpu", result_ttl=600)
    found: dict[str, Any] = json.loads(encode(job)["options"])
    return found


def read(options: dict[str, Any], keyframes: int = 2) -> dict[str, Any]:
    """The options of a job whose record holds these."""
    texts = encode(NewJob("ann", {}, [{}] * keyframes, "gpu", result_ttl=600))
    texts |= {"options": json.dumps(options), "state": "queued", "attempt": "1", "deaths": "0", "errors": "0"}
    return decode({name.encode(): value.encode() for name, value in {**texts, "created_at": "0"}.items()}).options


def before(record: dict[str, Any]) -> dict[str, Any]:
    """What a worker of the releases before makes of a record: the names it knows, and its own defaults."""
    return {**FIRST, **{name: value for name, value in record.items() if name in FIRST}}


def known(settings: Settings) -> dict[str, Any]:
    """Those of the settings that the releases before know, as JSON; what has no value any more as they knew it."""
    values = {name: getattr(settings, name) for name in FIRST}
    values = {name: FIRST[name] if value is None else value for name, value in values.items()}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def since() -> dict[str, Any]:
    """The options that have come since, as silence means them."""
    names = baseline.OPTION_DEFAULTS.keys() - FIRST.keys() - {"formats", "reference"}
    return {name: baseline.OPTION_DEFAULTS[name] for name in names if baseline.OPTION_DEFAULTS[name] is not None}


def test_what_silence_means_never_changes() -> None:
    assert {name: baseline.OPTION_DEFAULTS[name] for name in FIRST} == FIRST
    assert baseline.OPTION_DEFAULTS["formats"] == ["mp4"]
    assert baseline.OPTION_DEFAULTS["reference"] is None
    for name in ("flow", "svd", "trf", "vibid", "mpd-trf", "mpd-vibid", "mpd"):
        chained = {"segments": "chained"} if name in FIRST_METHODS else {}
        chained |= {"gamma_in": "steps"} if name.startswith("mpd") else {}
        found = {one: value for one, value in baseline.METHOD_DEFAULTS[name].items() if value is not None}
        assert found == FIRST_METHODS.get(name, {}) | chained


@thorough
@given(values=likely())
def test_a_record_keeps_what_differs_and_reads_as_it_was_asked(values: dict[str, Any]) -> None:
    try:
        options = Options.model_validate(values)
        settings = options.settings()
    except (ValidationError, SettingsError):
        return
    record = written(options.normalised())
    assert record.pop("version") == 1
    method = METHODS[settings.method]
    several = settings.loop and method.needs_model
    asked = {**options.normalised(), **({"segments": settings.segments or method.segments} if several else {})}
    assert read(record) == read({**record, "version": 1}) == asked
    assert settings_of(read(record)).spelled_out() == settings.spelled_out()
    assert before(record) == known(settings), "as a worker of the releases before reads it"
    stated = {name: value for name, value in record.items() if name in FIRST.keys() - ALWAYS}
    assert all(value != baseline.OPTION_DEFAULTS[name] for name, value in stated.items())
    assert record.keys() >= ALWAYS, "which those releases look up"


ALWAYS = {"method", "seeds", "loop", "formats"}


def test_what_has_no_value_where_it_once_had_one_is_told_beside_the_options() -> None:
    for background in (None, "#000000", "#ff8800"):
        options = Options(method="flow", background=background, steps=25, motion_bucket_id=127)
        record = written(options.normalised())
        assert record.get("background") == (background if background == "#ff8800" else None)
        assert record.get("unset", []) == ([] if background else ["background"])
        assert settings_of(complete(record, 2)).background == background
    before = {name: value for name, value in record.items() if name != "background"}
    assert settings_of(complete(before, 2)).background == "#000000", "a record that says nothing of it"


def test_an_ordinary_record_is_short() -> None:
    record = written(Options(method="flow", fps=24).normalised())
    always = {
        "formats": ["mp4"],
        "loop": False,
        "method": "flow",
        "seeds": [0],
        "unset": ["background", "motion_bucket_id", "steps"],
    }
    assert record == {"version": 1, "fps": 24, **always}


@pytest.mark.parametrize("record", BEFORE, ids=["plain", "full"])
def test_a_record_without_a_version_is_what_it_says(record: dict[str, Any]) -> None:
    several = {"segments": "chained"} if record["loop"] else {}
    assert read(record) == {**since(), **record, **several}
    assert known(settings_of(read(record))) == before(record)


@pytest.mark.parametrize(("method", "today"), [("mpd", "joint"), ("vibid", "alone"), ("flow", None)])
def test_several_keyframes_are_sampled_as_they_were(method: str, today: str | None) -> None:
    """A record says how where it means something; silence means what releases before 0.2 did."""
    options = Options.model_validate({"method": method}).normalised()
    pair, several = written(options), written(options, 3)
    assert "segments" not in pair, "which workers of the releases before can read"
    assert several.get("segments") == today
    assert read(several, 3).get("segments") == today
    assert settings_of(read(several, 3)).spelled_out()["segments"] == today
    assert read(pair, 3).get("segments") == (today and "chained")
    assert written({**options, "loop": True}).get("segments") == today
    asked = Options.model_validate({"method": method, **({"segments": "chained"} if today else {})})
    assert read(written(asked.normalised(), 3), 3).get("segments") == (today and "chained")


def test_metadata_of_releases_before_keeps_its_picture() -> None:
    three: list[dict[str, Any]] = [{"image": "job:x/0"}] * 3
    before: dict[str, Any] = {"keyframes": three, "options": {"method": "mpd"}, "result": {"frames": 49}}
    assert InbetweenRequest.model_validate(before).options.segments == "chained"
    for other in (
        {**before, "result": {"groups": [[0, 1, 2]]}},
        {**before, "result": None},
        {**before, "keyframes": three[:2]},
        {**before, "options": {"method": "flow"}},
        {**before, "options": {"method": "mpd", "segments": "alone"}},
    ):
        assert InbetweenRequest.model_validate(other).options.segments in (None, "alone")


@pytest.fixture
def changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A later release, with another default and with another value of a method's own."""
    names = [one.name for one in fields(Settings)]
    defaults = dict(zip(names, Settings.__init__.__defaults__ or (), strict=True)) | {"steps": 30, "frames": 14}
    monkeypatch.setattr(Settings.__init__, "__defaults__", tuple(defaults.values()))
    method = METHODS["mpd-vibid"]
    assert method.distillation is not None
    other = replace(method, distillation=replace(method.distillation, gamma=0.5))
    monkeypatch.setitem(METHODS, "mpd-vibid", other)


def test_a_record_keeps_its_picture_when_a_default_changes(changed: None) -> None:
    assert (Settings().steps, Settings().frames) == (30, 14)
    for record in ({"version": 1, "method": "mpd-vibid", "seeds": [0]}, {"method": "mpd-vibid", "fps": 7}):
        settings = settings_of(read(record))
        assert (settings.steps, settings.frames) == (25, None)
        assert settings.distillation is not None
        assert settings.distillation.gamma == 0.2
    assert settings_of(read({"version": 1, "gamma": 0.4})).gamma == 0.4, "what was stated is not the method's own"


def test_a_release_with_other_defaults_states_them(changed: None) -> None:
    newer = create_model("Newer", __base__=Options, steps=(int, Field(default=30)))
    record = written(newer(method="mpd-vibid").normalised())
    assert (record["steps"], record["frames"], record["gamma"]) == (30, 14, 0.5)
    assert before(record) | {"steps": 30, "gamma": 0.5} == before(record), "and workers of today know them"
    assert "steps" not in written(newer(steps=25).normalised()), "which is what silence means"


@pytest.mark.parametrize("record", [{"version": 1, "tempo": 3}, {"version": 2, "method": "flow"}])
def test_what_only_a_newer_release_knows_is_shown_and_not_run(record: dict[str, Any]) -> None:
    assert record.items() <= ({"version": 1} | read(record)).items()
    with pytest.raises(SettingsError, match="is known to newer releases alone"):
        settings_of(read(record))


def test_callers_see_all_options_and_the_record_does_not(api: Api) -> None:
    made = api.submit({"method": "flow", "fps": 9})
    assert made["options"]["fps"] == 9
    assert made["options"]["steps"] is None
    assert "version" not in made["options"]
    [listed] = api.client.get("/inbetween").json()["jobs"]
    assert listed["options"] == made["options"]
    text = api.services.redis.hget(api.jobs.keys.job(made["id"]), "options")
    assert json.loads(text or "") == written(made["options"])
    assert "steps" not in json.loads(text or "")
    job = api.jobs.get(made["id"])
    assert job is not None
    again = request_of(job.id, job.options, job.keyframes)["options"]
    assert Options.model_validate(again).normalised() == job.options
    assert again["noise_aug_strength"] == 0.02
