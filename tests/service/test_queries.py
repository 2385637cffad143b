"""A parameter that a route does not know is refused by name, on every route there is."""

from __future__ import annotations

import re
from typing import Any

import pytest
from fastapi.routing import APIRoute, iter_route_contexts

from service.api.app import create_app
from service.api.routes import queries
from service.settings import ServiceSettings
from tests.service.conftest import Api, problem

APP = create_app(ServiceSettings(_env_file=None, auth="off", storage_url="s3://none"))
ROUTES = [(method, route) for route in iter_route_contexts(APP.routes) for method in sorted(route.methods or ())]


def test_the_routes_are_all_there_are() -> None:
    paths = {route.path for _, route in ROUTES}
    assert {"/", "/objects/{token}", "/v1/videos", "/metrics", "/openapi.json", "/docs", "/livez", "/problems"} <= paths
    assert all(isinstance(route.original_route, APIRoute) for route in iter_route_contexts(APP.routes))


@pytest.mark.parametrize(("method", "route"), ROUTES, ids=lambda one: one if isinstance(one, str) else one.path)
def test_an_unknown_parameter_is_refused_by_name(api: Api, method: str, route: Any) -> None:
    path = re.sub(r"{[^}]*}", "x", route.path)
    known = sorted(queries.names(route.dependant))
    asked = {"limmit": "5", **dict.fromkeys(known, "1"), "another" * 20: "1", "": "1"}
    answer = api.client.request(method, path, params=asked)
    assert answer.status_code == 422, answer.text
    if method == "HEAD":
        return
    body = problem(answer, 422, "invalid-request")
    assert [fault["field"] for fault in body["errors"]] == ["limmit", ("another" * 20)[:80], "query"]
    for name in known:
        assert name in body["remedy"]
    assert known or "none" in body["remedy"]


def test_what_a_route_documents_is_what_it_knows(api: Api) -> None:
    document = api.client.get("/openapi.json").json()["paths"]
    checked = 0
    for method, route in ROUTES:
        operation = document.get(str(route.path_format), {}).get(method.lower())
        if operation is not None:
            told = {each["name"] for each in operation.get("parameters", []) if each["in"] == "query"}
            assert told == queries.names(route.dependant), (method, route.path)
            checked += bool(told)
            assert "422" in operation["responses"]
    assert checked > 5


def test_a_known_parameter_may_come_twice_and_an_empty_query_is_none(api: Api) -> None:
    assert api.client.get("/inbetween?limit=1&limit=2").status_code == 200
    assert api.client.get("/inbetween?").status_code == 200
    assert api.client.get("/?").status_code == 200


def test_signed_links_carry_no_parameters(api: Api) -> None:
    link = api.submit({"method": "flow"})["keyframes"][0]["url"]
    assert "?" not in link
    assert api.client.get(link).status_code == 200
    assert problem(api.client.get(f"{link}?download=1"), 422, "invalid-request")["field"] == "download"
