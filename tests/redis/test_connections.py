"""What REDIS_URL may say, and what is said about what it may not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from service.database.connections import CannotConnect, connect, place_of, shown
from service.settings import ServiceSettings


def settings(url: str, **more: Any) -> ServiceSettings:
    return ServiceSettings(_env_file=None, redis_url=url, **more)


def test_sentinels_have_passwords_of_their_own() -> None:
    place = place_of(
        settings(
            "redis+sentinel://ann:data%2Fsecret@one:26380,two,[::1]:26381/house/3?health_check_interval=7",
            redis_password="not this one",
            redis_sentinel_username="guard",
            redis_sentinel_password="other",
        )
    )
    assert place.sentinels == (("one", 26380), ("two", 26379), ("::1", 26381))
    assert place.service == "house"
    assert not place.tls
    wanted = {"username": "ann", "password": "data/secret", "db": 3, "health_check_interval": 7}
    assert place.options == wanted
    assert {name: place.sentinel_options[name] for name in ("username", "password")} == {
        "username": "guard",
        "password": "other",
    }
    assert "ssl" not in place.sentinel_options


def test_tls_is_for_the_sentinels_too(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.touch()
    place = place_of(settings("rediss+sentinel://one/house", redis_ca_file=ca))
    assert place.tls
    assert place.options == {"ssl_ca_certs": str(ca)}
    assert place.sentinel_options["ssl"] is True
    assert place.sentinel_options["ssl_ca_certs"] == str(ca)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis+cluster://host:6379", "Cluster, which RQ's workers cannot use"),
        ("rediss+cluster://host:6379", "Cluster, which RQ's workers cannot use"),
        ("redis+sentinel://one:26379", "names no sentinel or no service"),
        ("redis+sentinel:///house", "names no sentinel or no service"),
        ("redis+sentinel://one:many/house", "sentinel's address"),
        ("redis+sentinel://:se/same@one/house", "names no|address|cannot be used"),
        ("http://host", "REDIS_URL cannot be used"),
        ("host:6379", "REDIS_URL cannot be used"),
    ],
)
def test_what_cannot_be_a_redis_is_one_sentence(url: str, says: str) -> None:
    with pytest.raises(CannotConnect, match=says) as refused:
        connect(settings(url))
    assert "same" not in str(refused.value)


def test_certificates_without_tls_are_refused(tmp_path: Path) -> None:
    (tmp_path / "one.pem").touch()
    with pytest.raises(CannotConnect, match="write rediss://"):
        connect(settings("redis://host", redis_ca_file=tmp_path / "one.pem"))
    with pytest.raises(CannotConnect, match="belong together"):
        connect(settings("rediss://host", redis_cert_file=tmp_path / "one.pem"))


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("redis://ann:sesame@host:6379/0?db=1", "host:6379/0"),
        ("redis+sentinel://:sesame@one,two/house", "one,two/house (by Sentinel)"),
        ("unix:///run/redis.sock", "/run/redis.sock"),
    ],
)
def test_where_it_is_can_be_shown(url: str, place: str) -> None:
    assert shown(settings(url)) == place
