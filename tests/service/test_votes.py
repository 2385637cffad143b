"""Blind votes: counted by method, one a person and set of videos, each owner its own, refused if they say nothing."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from service.api import votes
from service.auth import Scope
from tests.service.conftest import Api, Make, problem
from tests.service.test_api_jobs import Person
from trials.pictures import photo

METHODS = ("flow", "vibid", "mpd")


def videos(api: Api, person: Person | None = None, **options: Any) -> list[str]:
    """One finished job of each method, from the same keyframes."""
    headers = person.headers if person else {}
    made = [api.submit({"method": method, **options}, headers=headers)["id"] for method in METHODS]
    return [api.succeed(job_id).id for job_id in made]


def cast(api: Api, order: list[str], person: Person | None = None, **more: Any) -> httpx.Response:
    body = {"voter": "ann", "order": order, **more}
    return api.client.post("/votes", json=body, headers=person.headers if person else {})


def test_votes_are_tallied_into_the_columns_of_the_user_study(api: Api) -> None:
    flow, vibid, mpd = videos(api)
    assert cast(api, [mpd, vibid, flow], artifacts=[flow, vibid], unrealistic=[flow]).status_code == 201
    tally = cast(api, [mpd, flow, vibid], voter="bob", unrealistic=[flow]).json()
    assert tally["studies"] == [tally["study"]]
    assert tally == api.client.get("/votes").json()
    assert tally["methods"] == [
        {"method": "mpd", "votes": 2, "mean_rank": 1.0, "first": 1.0, "artifacts": 0.0, "unrealistic": 0.0},
        {"method": "flow", "votes": 2, "mean_rank": 2.5, "first": 0.0, "artifacts": 0.5, "unrealistic": 1.0},
        {"method": "vibid", "votes": 2, "mean_rank": 2.5, "first": 0.0, "artifacts": 0.5, "unrealistic": 0.0},
    ]


def test_a_vote_cast_again_replaces_the_one_before(api: Api) -> None:
    made = videos(api)
    cast(api, made)
    tally = cast(api, made[::-1]).json()
    assert [(each["method"], each["votes"]) for each in tally["methods"]] == [("mpd", 1), ("vibid", 1), ("flow", 1)]
    assert cast(api, videos(api)).json()["methods"][0]["votes"] == 2, "other videos are another vote"


def test_a_vote_counts_on_when_its_videos_are_gone(api: Api) -> None:
    made = videos(api)
    cast(api, made)
    for job_id in made:
        api.client.delete(f"/inbetween/{job_id}")
    assert [each["method"] for each in api.client.get("/votes").json()["methods"]] == ["flow", "vibid", "mpd"]


def test_studies_are_apart_and_can_be_erased(api: Api) -> None:
    made = videos(api)
    cast(api, made, study="shots")
    cast(api, made[::-1], study="titles")
    assert api.client.get("/votes", params={"study": "titles"}).json()["methods"][0]["method"] == "mpd"
    assert api.client.delete("/votes", params={"study": "shots"}).status_code == 204
    left = api.client.get("/votes").json()
    assert (left["study"], left["studies"]) == ("titles", ["titles"])
    assert api.client.get("/votes", params={"study": "shots"}).json()["methods"] == []


def test_votes_are_their_owners_own(make_api: Make) -> None:
    api = make_api(auth="keys")
    ann, bob = Person(api), Person(api)
    hers = videos(api, ann)
    assert cast(api, hers, ann).status_code == 201
    assert api.client.get("/votes", headers=bob.headers).json()["methods"] == []
    problem(cast(api, hers, bob), 404, "job-not-found")
    api.client.delete("/votes", params={"study": "first look"}, headers=bob.headers)
    assert api.client.get("/votes", headers=ann.headers).json()["methods"]
    reader = Person(api, Scope.read, owner=ann.key.owner)
    assert api.client.get("/votes", headers=reader.headers).json()["methods"]
    problem(cast(api, hers, reader), 403, "forbidden")


def test_a_vote_that_compares_nothing_is_refused(api: Api) -> None:
    made = videos(api)
    queued = api.submit({"method": "trf"})["id"]
    files = {"start": photo(colour="red"), "end": photo()}
    other = api.client.post("/inbetween", files=files, data={"options": '{"method": "svd"}'}).json()["id"]
    api.succeed(other)
    twin, reseeded = api.submit({"method": "flow"})["id"], api.submit({"method": "svd", "seed": 9})["id"]
    api.succeed(twin)
    api.succeed(reseeded)
    for order, field in (
        (made[:1], "order"),
        ([made[0], made[0]], "order"),
        ([made[0], queued], "order"),
        ([made[0], other], "order"),
        ([made[0], twin], "order"),
        ([made[0], reseeded], "order"),
    ):
        assert problem(cast(api, order), 422, "invalid-request")["field"] == field
    fault = problem(cast(api, made[:2], artifacts=[made[2]]), 422, "invalid-request")
    assert fault["field"] == "artifacts"
    for name, value in (("voter", "a b"), ("voter", ""), ("study", "a:b"), ("study", " ")):
        given: dict[str, Any] = {name: value}
        assert problem(cast(api, made, **given), 422, "invalid-request")["field"] == name
    assert api.client.get("/votes").json()["studies"] == []


def test_a_study_does_not_grow_without_end(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(votes, "MOST_VOTES", 1)
    monkeypatch.setattr(votes, "MOST_STUDIES", 1)
    made = videos(api)
    assert cast(api, made).status_code == 201
    assert cast(api, made[::-1]).status_code == 201, "the same voter's"
    assert problem(cast(api, made, voter="bob"), 422, "invalid-request")["field"] == "study"
    assert problem(cast(api, made, study="other"), 422, "invalid-request")["field"] == "study"
