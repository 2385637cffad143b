"""What a bare machine lacks is left out, counted and named with its remedy; in CI nothing may be."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

TESTS = """
import pytest

@pytest.mark.needs("chromium")
@pytest.mark.parametrize("page", range(3))
def test_a_page(page): pass

@pytest.mark.needs("curl", "chromium")
def test_a_line(): pass

def test_alone(): pass
"""


@pytest.fixture
def inner(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Tests of an own project on a machine with nothing on PATH.

    To be run in a process of their own: within this one, pytester takes modules away from threads that import.
    """
    monkeypatch.setenv("PATH", str(pytester.path))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:schemathesis")
    monkeypatch.delenv("CI", raising=False)
    pytester.makeconftest("pytest_plugins = ['tests.needs']")
    pytester.makepyfile(TESTS)
    return pytester


def test_what_is_missing_is_left_out_and_named_last(inner: pytest.Pytester) -> None:
    told = inner.runpytest_subprocess("--strict-markers", "-ra")
    told.assert_outcomes(passed=1, skipped=4)
    left, curl, counted = told.outlines[-3:]
    assert left == "left out: 3 tests that need chromium: apt-get install chromium"
    assert curl == "left out: 1 test that needs curl: apt-get install curl"
    assert "1 passed, 4 skipped" in counted


def test_what_is_missing_is_named_by_tests_side_by_side_too(inner: pytest.Pytester) -> None:
    told = inner.runpytest_subprocess("--strict-markers", "-n2")
    told.assert_outcomes(passed=1, skipped=4)
    told.stdout.fnmatch_lines(["left out: 3 tests that need chromium: *", "left out: 1 test that needs curl: *"])


def test_what_is_there_is_run(inner: pytest.Pytester) -> None:
    for name in ("google-chrome", "curl"):
        (inner.path / name).touch(0o755)
    told = inner.runpytest_subprocess()
    told.assert_outcomes(passed=5)
    assert "left out" not in told.stdout.str()


def test_in_ci_nothing_may_be_missing(inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    told = inner.runpytest_subprocess()
    assert told.ret == pytest.ExitCode.USAGE_ERROR
    told.stderr.fnmatch_lines(["*nothing may be left out*", "*3 tests that need chromium: apt-get install chromium"])
    assert inner.runpytest_subprocess("-k", "alone").ret == pytest.ExitCode.OK, "what nobody asked for may be missing"


def test_a_need_that_nobody_knows_is_an_error(inner: pytest.Pytester) -> None:
    inner.makepyfile(test_wrong="import pytest\n@pytest.mark.needs('chromum')\ndef test_it(): pass")
    told = inner.runpytest_subprocess()
    assert told.ret == pytest.ExitCode.USAGE_ERROR
    told.stderr.fnmatch_lines(["*does not know chromum*"])
