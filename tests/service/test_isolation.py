"""Who gets in, and who sees what: over every route that the application has, so that no new one can be forgotten.

A route is public because it stands in `PUBLIC` below, or it demands a key with a scope; a route with an id in it
answers another owner's key as if there were no such thing.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from fastapi.routing import iter_route_contexts

from service.api.app import create_app
from service.auth import Scope
from service.settings import ServiceSettings
from tests.service.conftest import Api, Make, problem
from tests.service.test_api_jobs import Person
from trials.pictures import photo

PUBLIC = {
    "/": "the playground",
    "/playground/{asset}": "its files",
    "/docs": "the reference",
    "/openapi.json": "the document it is made from",
    "/livez": "asked by whatever keeps the process running",
    "/readyz": "asked by load balancers",
    "/problems": "what errors mean",
    "/problems/{slug}": "what one error means",
    "/objects/{token}": "the link is the permission",
}
"""Every path that needs no key, and why."""

SCOPES = {Scope.read, Scope.submit, Scope.metrics, Scope.admin}


@dataclass(frozen=True)
class Route:
    method: str
    path: str

    @property
    def names(self) -> set[str]:
        """The parameters in the path."""
        return set(re.findall(r"{(\w+)}", self.path))

    def ask(self, client: httpx.Client, person: Person | None, **values: str) -> httpx.Response:
        """The request, with a body that would do where the route takes one."""
        path = self.path
        for name in self.names:
            path = path.replace(f"{{{name}}}", values[name])
        headers = person.headers if person else {}
        return client.request(self.method, path, headers=headers, **BODIES.get(path, {}))


BODIES: dict[str, dict[str, Any]] = {
    "/inbetween": {
        "files": {"start": photo(), "end": photo(colour="teal")},
        "data": {"options": json.dumps({"method": "flow"})},
    },
    "/uploads": {"json": {"content_type": "image/png", "size": 3}},
}
BODIES["/inbetween/estimate"] = BODIES["/inbetween"]


def routes() -> list[Route]:
    """Each method of each route, those that the document does not show among them."""
    app = create_app(ServiceSettings(_env_file=None, auth="off", storage_url="var/none"))
    found = [
        Route(method, str(each.path_format))
        for each in iter_route_contexts(app.routes)
        for method in sorted(each.methods or ())
        if not (method == "HEAD" and each.path == "/openapi.json")
    ]
    assert len(found) > 25
    return found


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> list[Route]:
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(tmp_path_factory.mktemp("routes"))
        return routes()


@pytest.fixture
def guarded(make_api: Make) -> Api:
    return make_api(auth="keys", rate_limit=0)


@dataclass(frozen=True)
class Belongings:
    """Everything that one owner can have."""

    job: str
    queued: str
    delivery: str
    upload: str

    @property
    def ids(self) -> dict[str, str]:
        """What stands for each parameter of a path. A route with a parameter of another name fails here: say whose
        what it names is, and what another owner may know of it.
        """
        return {
            "job_id": self.job,
            "delivery_id": self.delivery,
            "n": "0",
            "name": "metadata.json",
            "slug": "forbidden",
            "token": "x",
        }

    @property
    def traces(self) -> tuple[str, ...]:
        return self.job, self.queued, self.delivery, self.upload, "ann's shot"


OWNED = {"job_id": "job-not-found", "delivery_id": "delivery-not-found"}
"""Parameters that name what belongs to somebody, and the answer to everybody else."""


def belongings(api: Api, person: Person) -> Belongings:
    options = {"method": "flow", "reference": "ann's shot", "webhook": {"url": "https://ann.example.com/hook"}}
    job = api.succeed(api.submit(options, headers=person.headers)["id"])
    api.services.webhooks.announce(job)
    queued = api.submit(options, headers=person.headers)["id"]
    asked = {"content_type": "image/png", "size": len(photo())}
    upload = api.client.post("/uploads", json=asked, headers=person.headers).json()
    assert api.client.put(upload["url"], headers=upload["headers"], content=photo()).status_code == 200
    [delivery] = api.client.get("/webhooks/deliveries", headers=person.headers).json()["deliveries"]
    return Belongings(job.id, queued, delivery["id"], upload["id"])


def test_every_route_is_public_by_name_or_demands_a_scope(guarded: Api, table: list[Route]) -> None:
    revoked = Person(guarded, Scope.read)
    guarded.services.keys.revoke(revoked.key.id)
    ids = {name: "x" for route in table for name in route.names}
    ids |= {"n": "0", "slug": "forbidden", "asset": "page.js"}
    demanded: dict[Route, Scope] = {}
    for route in table:
        answer = route.ask(guarded.client, None, **ids)
        if route.path in PUBLIC:
            assert answer.status_code in (200, 403), route
            continue
        assert answer.status_code == 401, f"{route} needs no key: demand a scope, or say why not in PUBLIC"
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert route.ask(guarded.client, revoked, **ids).status_code == 401, f"{route} takes a revoked key"
        demanded[route] = scope_of(guarded, route, ids)
    assert set(PUBLIC) == {route.path for route in table} - {route.path for route in demanded}
    assert set(demanded.values()) == SCOPES


def scope_of(api: Api, route: Route, ids: dict[str, str]) -> Scope:
    """The one scope that opens the route, apart from `admin`: every other one is refused and told which it takes."""
    refused, named = set(), set()
    for scope in SCOPES:
        answer = route.ask(api.client, Person(api, scope), **ids)
        assert answer.status_code != 401
        if answer.status_code == 403:
            refused.add(scope)
            named.add(problem_of(answer)["scope"])
    assert Scope.admin not in refused
    opens = SCOPES - refused - {Scope.admin} or {Scope.admin}
    assert named == {str(scope) for scope in opens}, route
    return opens.pop()


def problem_of(answer: httpx.Response) -> dict[str, Any]:
    """The problem in an answer; HEAD's has no body, so the GET of the same path tells."""
    if answer.request.method == "HEAD":
        request = answer.request
        answer = httpx.get(request.url, headers={"Authorization": request.headers["authorization"]})
    return problem(answer, 403, "forbidden")


def test_what_belongs_to_one_owner_is_not_there_for_another(guarded: Api, table: list[Route]) -> None:
    """Not forbidden: not there. The answer is the same as for an id that never was."""
    ann, bob = Person(guarded), Person(guarded, Scope.read, Scope.submit, Scope.metrics)
    hers = belongings(guarded, ann)
    never = {"job_id": "job_" + "0" * 26, "delivery_id": "msg_" + "a" * 26}
    tried = 0
    for route in table:
        owned = next(iter(route.names & set(OWNED)), None)
        if owned is None or route.path.startswith("/dead-letters"):
            continue
        assert not route.names - set(hers.ids), f"whose is what {route} names?"
        answer = route.ask(guarded.client, bob, **hers.ids)
        assert answer.status_code == 404, route
        other = route.ask(guarded.client, bob, **{**hers.ids, **never})
        assert plain(answer) == plain(other), route
        if route.method != "HEAD":
            problem(answer, 404, OWNED[owned])
        assert not any(trace in answer.text for trace in hers.traces)
        tried += 1
    assert tried >= 14
    assert guarded.client.get(f"/events?ids={hers.job}", headers=bob.headers).status_code == 404
    mixed = f"/events?ids={belongings(guarded, bob).job},{hers.job}"
    problem(guarded.client.get(mixed, headers=bob.headers), 404, "job-not-found")
    untouched(guarded, ann, hers)


def plain(answer: httpx.Response) -> tuple[int, str, dict[str, str]]:
    """An answer without what differs from one request to the next."""
    changing = ("date", "x-request-id", "ratelimit", "ratelimit-policy")
    return answer.status_code, answer.text, {k: v for k, v in answer.headers.items() if k not in changing}


def untouched(api: Api, person: Person, hers: Belongings) -> None:
    """Everything is still there and as it was, for its owner."""
    views = {name: api.client.get(f"/inbetween/{name}", headers=person.headers).json() for name in hers.traces[:2]}
    assert views[hers.job]["state"] == "succeeded"
    assert views[hers.queued]["state"] == "queued"
    assert not views[hers.queued]["cancel_requested"]
    for file in views[hers.job]["result"]["files"]:
        assert httpx.get(file["url"]).status_code == 200
    [delivery] = api.client.get("/webhooks/deliveries", headers=person.headers).json()["deliveries"]
    assert delivery["tries"] == 0
    body = {"start": f"upload:{hers.upload}", "end": f"upload:{hers.upload}", "options": {"method": "flow"}}
    assert api.client.post("/inbetween", json=body, headers=person.headers).status_code == 202


def test_no_list_and_no_figure_tells_of_another_owner(guarded: Api, table: list[Route]) -> None:
    ann, bob = Person(guarded), Person(guarded, Scope.read, Scope.submit, Scope.metrics)
    hers = belongings(guarded, ann)
    asked = [route for route in table if route.method == "GET" and not route.names and route.path not in PUBLIC]
    assert len(asked) >= 4
    for route in asked:
        answer = route.ask(guarded.client, bob)
        assert answer.status_code in (200, 403, 422), route
        told = answer.text + str(answer.headers)
        assert not any(trace in told for trace in (*hers.traces, ann.key.owner, ann.key.id, ann.secret)), route
    assert guarded.client.get("/inbetween", headers=bob.headers).json()["jobs"] == []
    assert guarded.client.get("/webhooks/deliveries", headers=bob.headers).json()["deliveries"] == []


@pytest.mark.parametrize("path", ["/inbetween", "/inbetween/estimate"])
def test_an_upload_is_its_owners_alone(guarded: Api, path: str) -> None:
    ann, bob = Person(guarded), Person(guarded)
    hers = belongings(guarded, ann)
    body = {"start": f"upload:{hers.upload}", "end": f"upload:{hers.upload}", "options": {"method": "flow"}}
    never = {**body, "start": "upload:" + "0" * 32, "end": "upload:" + "0" * 32}
    told, nothing = (guarded.client.post(path, json=each, headers=bob.headers) for each in (body, never))
    assert "upload-not-found" in told.text
    assert refusals(told) == refusals(nothing)


def refusals(answer: httpx.Response) -> Any:
    body = answer.json()
    return answer.status_code, body.get("refusals", body)


def test_an_operator_sees_all_and_a_twin_key_its_owners(guarded: Api) -> None:
    ann, root = Person(guarded), Person(guarded, Scope.admin)
    twin = Person(guarded, owner=ann.key.owner)
    hers = belongings(guarded, ann)
    for person in (ann, twin, root):
        assert guarded.client.get(f"/inbetween/{hers.job}", headers=person.headers).status_code == 200
    listed = guarded.client.get("/inbetween", headers=twin.headers).json()["jobs"]
    assert {view["id"] for view in listed} == {hers.job, hers.queued}


def test_a_key_is_replaced_without_a_gap(guarded: Api) -> None:
    """Both keys of an owner are live until the old one is revoked; its jobs stay."""
    old = Person(guarded)
    job = guarded.submit({"method": "flow"}, headers=old.headers)["id"]
    new = Person(guarded, owner=old.key.owner)
    for person in (old, new):
        assert guarded.client.get(f"/inbetween/{job}", headers=person.headers).status_code == 200
    guarded.services.keys.revoke(old.key.id)
    problem(guarded.client.get(f"/inbetween/{job}", headers=old.headers), 401, "unauthorized")
    assert guarded.client.get(f"/inbetween/{job}", headers=new.headers).status_code == 200


def test_a_link_in_an_answer_opens_one_file_for_a_while(make_api: Make) -> None:
    """What a browser gets, which can send no key from an img or a video."""
    api = make_api(auth="keys", signed_url_ttl=10)
    ann = Person(api)
    hers = belongings(api, ann)
    view = api.client.get(f"/inbetween/{hers.job}", headers=ann.headers).json()
    link = view["result"]["files"][0]["url"]
    assert httpx.get(link).status_code == 200
    assert ann.secret not in link
    token = httpx.URL(link).path.removeprefix("/objects/")
    grant = api.storage.verify(token, "GET")
    assert grant.expires - api.storage._clock() <= 10
    problem(httpx.put(link, content=b"x"), 403, "link-invalid")
    problem(httpx.get(f"{api.url}/objects/"), 404, "not-found")
    problem(httpx.get(f"{api.url}/objects"), 404, "not-found")
