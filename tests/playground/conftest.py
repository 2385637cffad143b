"""A real Chromium in front of the playground, which must ask nothing of another host and must not complain."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect, sync_playwright

from tests.needs import chromium

AXE = (Path(__file__).parent / "axe-4.14.1.min.js").read_text()
WAIT = 240_000
"""Milliseconds that anything may take before it counts as never."""
SETTLED = """() => {
  const fading = document.getAnimations().filter((one) => one instanceof CSSTransition);
  return Promise.all(fading.map((one) => one.finished));
}"""


@pytest.fixture(scope="session", autouse=True)
def log_of_the_test() -> None:
    """Our log lines go where pytest keeps them, and are shown with a failed test."""
    structlog.stdlib.recreate_defaults(log_level=None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Of the module, not of the session: Playwright's loop keeps others from running in this thread."""
    arguments = ["--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required"]
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium(), args=arguments)
        yield launched
        launched.close()


def take_sample(page: Page, name: str) -> None:
    """Press a sample and wait until it is in the form: it is fetched first, and then it sets every field."""
    page.get_by_role("button", name=name).click()
    expect(page.locator("#status")).to_have_text(f"{name}: both keyframes are in place.")


class Visitor:
    """A page, and what is wrong with it: errors in its console, and requests to other hosts."""

    def __init__(self, context: BrowserContext, url: str, pictures: Path) -> None:
        self.url = url
        self.pictures = pictures
        self.page: Page = context.new_page()
        self.page.set_default_timeout(WAIT)
        self.asked: list[Request] = []
        self.expected: list[str] = []
        """Parts of complaints that the test provokes."""
        self.complaints: list[str] = []
        self._taken = 0
        self.page.on("request", lambda request: self.asked.append(request))
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def open(self, part: str = "") -> Page:
        self.page.goto(f"{self.url}/{part}")
        self.page.wait_for_selector("html[data-ready]")
        return self.page

    def picture(self, name: str) -> None:
        """A screenshot for people to look at."""
        self._taken += 1
        self.page.screenshot(path=self.pictures / f"{self._taken:02d}-{name}.png")

    def accessible(self) -> None:
        """Nothing that axe finds wrong, in the light and in the dark."""
        self.page.evaluate(f"window.axe || (() => {{ {AXE} }})()")
        for colours in ("light", "dark"):
            self.page.emulate_media(color_scheme=colours)
            self.page.evaluate(SETTLED)
            found: list[dict[str, Any]] = self.page.evaluate(
                "axe.run(document, {resultTypes: ['violations']}).then((result) => result.violations)"
            )
            assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []

    def check(self) -> None:
        elsewhere = [one.url for one in self.asked if not one.url.startswith((self.url, "blob:", "data:"))]
        assert elsewhere == []
        assert [line for line in self.complaints if not any(part in line for part in self.expected)] == []


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Where screenshots go: PLAYGROUND_PICTURES, or the test's own folder."""
    folder = Path(os.environ.get("PLAYGROUND_PICTURES", tmp_path / "pictures"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
