"""The playground as a newcomer meets it: the service as `make up` leaves it, a browser, and no manual."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from tenacity import retry, stop_after_delay, wait_fixed

from mpd import sprites
from tests.playground.conftest import WAIT, Visitor, take_sample
from trials.processes import stack

expect.set_options(timeout=WAIT)
pytestmark = [pytest.mark.needs("chromium"), pytest.mark.timeout(900)]
PLAYGROUND = Path(__file__).parents[2] / "service" / "playground"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    area = tmp_path_factory.mktemp("stack")
    with stack(area, DEVICE="cpu", MODEL=str(sprites.PATH)) as running:
        yield running.url


@pytest.fixture
def visitor(browser: Browser, url: str, pictures: Path) -> Iterator[Visitor]:
    context = browser.new_context(viewport={"width": 1440, "height": 900}, permissions=["clipboard-write"])
    met = Visitor(context, url, pictures)
    yield met
    met.check()
    context.close()


def until(page: Page, condition: str) -> None:
    """Playwright's own wait would evaluate a text within the page, whose policy forbids that."""

    @retry(stop=stop_after_delay(WAIT / 1000), wait=wait_fixed(0.02), reraise=True)
    def holds() -> None:
        assert page.evaluate(condition), condition

    holds()


def test_from_a_sample_to_a_played_video(visitor: Visitor, tmp_path: Path) -> None:
    """Two clicks. Then what can be done with the video: frame by frame, downloads, the request elsewhere, a reload."""
    page = visitor.open()
    page.wait_for_selector("#method option[value=mpd]:not([disabled])", state="attached")
    visitor.picture("welcome")
    visitor.accessible()
    take_sample(page, "Arrow")
    page.get_by_role("button", name="Make the video").click()
    page.wait_for_selector(".progress[data-step] .preview")
    assert "of 15" in page.inner_text(".words")
    assert page.get_attribute(".preview", "src").startswith("data:image/jpeg;base64,")  # type: ignore[union-attr]
    visitor.picture("progress")
    player = page.locator(".player")
    player.wait_for()
    until(page, "document.querySelector('.player').dataset.frame > 2")
    until(page, "document.querySelector('.player').dataset.frame < 2")
    visitor.picture("result")

    player.press("Home")
    for _ in range(3):
        player.press("ArrowRight")
    player.press("ArrowLeft")
    assert (player.get_attribute("data-frame"), player.get_attribute("data-playing")) == ("2", "false")
    until(page, "Math.abs(document.querySelector('video').currentTime - 2.5 / 7) < 1e-3")
    page.get_by_role("button", name="End: go to frame 12").click()
    assert player.get_attribute("data-frame") == "11"
    player.press(" ")
    expect(player).to_have_attribute("data-playing", "true")
    player.press(" ")
    expect(player).to_have_attribute("data-playing", "false")
    visitor.accessible()

    for button in page.locator(".download").all():
        with page.expect_download() as download:
            button.click()
        saved = tmp_path / download.value.suggested_filename
        download.value.save_as(saved)
        assert saved.stat().st_size > 500, saved
    suffixes = {path.suffix for path in tmp_path.glob("job_*")}
    assert suffixes == {".mp4", ".webm", ".gif", ".zip", ".jpg", ".json"}
    same_elsewhere(visitor, tmp_path)

    page.reload()
    player.wait_for()
    page.wait_for_selector(".keyframe >> nth=1")
    assert page.input_value("#method") == "mpd"
    assert page.input_value("#field-motion_bucket_id") == "157"


def same_elsewhere(visitor: Visitor, folder: Path) -> None:
    """The request as it is shown makes the same job by curl, and the same video by Python."""
    page = visitor.page
    for name in ("arrow-start.png", "arrow-end.png"):
        shutil.copy(PLAYGROUND / name, folder)
    page.get_by_text("The exact request").click()
    curl = page.inner_text(".request pre")
    assert '"motion_bucket_id":157' in curl
    done = subprocess.run(curl, shell=True, cwd=folder, capture_output=True, text=True, check=True)
    assert '"state":"queued"' in done.stdout
    page.get_by_role("button", name="Python").click()
    script = page.inner_text(".request pre").replace("'method': 'mpd'", "'method': 'flow'")
    environment = {**os.environ, "NO_PROXY": "127.0.0.1"}
    subprocess.run([sys.executable, "-c", script], cwd=folder, env=environment, check=True)
    assert (folder / "video.mp4").stat().st_size > 500


def test_methods_are_compared_in_step_and_judged_blind(visitor: Visitor) -> None:
    page = visitor.open()
    page.wait_for_selector("#method option[value=mpd]:not([disabled])", state="attached")
    assert page.input_value("#method") == "flow", "what the model that ships knows, a stranger's pictures are not"
    page.select_option("#method", "mpd")
    expect(page.locator("#about-method")).to_contain_text("The engine's model makes 12 frames")
    page.set_input_files("#picker", [PLAYGROUND / "arrow-end.png", PLAYGROUND / "arrow-start.png"])
    page.locator(".keyframe").first.press("ArrowRight")
    names = page.locator(".keyframe img").evaluate_all("(images) => images.map((image) => image.alt)")
    assert names == ["Start: arrow-start.png", "End: arrow-end.png"]
    page.locator("[data-mode=several]").click()
    for box in page.locator(".boxes").first.get_by_role("checkbox").all():
        box.set_checked(box.get_attribute("value") in ("flow", "mpd"))
    page.get_by_text("More settings").click()
    page.fill("#field-steps", "4")
    page.get_by_role("button", name="Make 2 videos").click()
    player = page.locator(".player")
    player.wait_for()
    until(page, "document.querySelector('.player').dataset.frame > 3")
    player.press("Home")
    page.evaluate("document.querySelector('video').dispatchEvent(new Event('ended'))")  # a busy browser tells it late
    assert page.evaluate("document.querySelector('video').paused")
    for _ in range(5):
        player.press("ArrowRight")
    until(
        page, "[...document.querySelectorAll('video')].every((video) => Math.abs(video.currentTime - 5.5 / 7) < 1e-3)"
    )
    until(page, "parseFloat(document.querySelector('.measure').textContent) > 1")
    visitor.picture("comparison")
    visitor.accessible()

    # What a storage on another host does that names no origin in its CORS rules.
    visitor.expected = ["net::ERR_FAILED"]
    page.route(
        "**/objects/*",
        lambda route: route.abort() if route.request.resource_type == "fetch" else route.continue_(),
    )
    page.reload()
    expect(page.locator(".measure")).to_contain_text("The storage does not let this page read its videos")
    page.unroute("**/objects/*")
    page.reload()

    page.get_by_role("link", name="Rank them blind").click()
    page.wait_for_selector(".vote")
    shown = page.inner_text("main")
    assert not any(word in shown for word in ("Optical flow", "MPD", "flow")), "the names stay secret"
    page.get_by_role("button", name="Cast the vote").click()
    assert "place" in page.inner_text(".cast [role=alert]")
    page.locator("[data-letter=A]").get_by_role("radio", name="1st").check()
    page.locator("[data-letter=B]").get_by_role("radio", name="1st").check()
    page.locator("[data-letter=A]").get_by_role("radio", name="2nd").check()
    page.locator("[data-letter=A]").get_by_role("checkbox", name="Artifacts").check()
    visitor.picture("ballot")
    visitor.accessible()
    page.get_by_role("button", name="Cast the vote").click()
    page.wait_for_selector(".counted tbody tr")
    rows = [row.split("\t") for row in page.locator(".counted tbody tr").all_inner_texts()]
    best = page.locator("[data-letter=B] strong").inner_text().partition(" · ")[2]
    assert rows[0] == [best, "1.00", "100 %", "0 %", "0 %", "1"]
    assert rows[1][1:] == ["2.00", "0 %", "100 %", "0 %", "1"]
    page.get_by_role("link", name="All votes").click()
    page.wait_for_selector(".tallies tbody tr")
    visitor.picture("votes")
    visitor.accessible()
