"""The tiny random model, and sites of processes that share it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mpd.tiny import build
from trials.site import Site


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def site(redis_server: str, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site with an engine that is ready, workers and a keeper."""
    site = Site(redis_server, tmp_path_factory.mktemp("site"), MODEL=str(tiny), STALL_SECONDS="8", DRAIN_GRACE="0")
    site.launcher = site.start("worker")
    site.start("keeper")
    site.engine()
    yield site
    site.close()


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder for temporary files, whose path leaves room for that of a unix socket."""
    with tempfile.TemporaryDirectory(prefix="t-") as folder:
        yield Path(folder)


@pytest.fixture
def bare(redis_server: str, tmp_path: Path) -> Iterator[Site]:
    """A site without a model, where nothing runs yet."""
    site = Site(redis_server, tmp_path)
    yield site
    site.close()
