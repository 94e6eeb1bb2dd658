"""The page of `vitaclip demo` in headless Chromium, once."""

import shutil
from urllib.parse import urlsplit

import pytest


pytestmark = pytest.mark.slow
pytest.importorskip("gradio", minversion="6.31")
pytest.importorskip("pyarrow")
playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")

import app  # noqa: E402

from vitaclip_hf import load_checkpoint  # noqa: E402
from vitaclip_hf.server.limits import Limits  # noqa: E402


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WAIT = 60_000  # milliseconds


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    limits = Limits(upload_bytes=1 << 20)
    door = app.Door(load_checkpoint(app.DEMO / "checkpoint"), tmp_path_factory.mktemp("app"), limits)
    built = app.build(door)
    _, url, _ = app.launch(built, door, server_name="127.0.0.1", prevent_thread_lock=True)
    yield url
    built.close()


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser, address):
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    opened.set_default_timeout(WAIT)
    requests = []
    opened.on("request", lambda request: requests.append(request.url))
    opened.goto(address)
    opened.wait_for_selector("#answer .empty")
    yield opened
    outside = [url for url in requests if urlsplit(url).scheme not in ("data", "blob")]
    assert outside and {urlsplit(url).hostname for url in outside} == {"127.0.0.1"}
    opened.close()


def test_an_answer_and_a_click_on_the_timeline_that_moves_the_player(page):
    page.click("#classify")
    page.wait_for_selector("#answer .bars")
    assert page.inner_text("#answer h2") == app.START.removesuffix(".mp4").replace("_", " ")
    assert page.locator("#answer figure").count() == 8
    page.click("#sample input")
    page.get_by_role("option", name=app.LONG_SAMPLE).click()
    page.get_by_role("tab", name="Timeline").click()
    page.wait_for_selector("#timeline .empty")
    page.click("#show_timeline")
    last = page.locator("#timeline .lane button").last
    time = float(last.get_attribute("data-time"))
    assert time > 5
    last.click()
    page.wait_for_function(f"Math.abs(document.querySelector('#player video').currentTime - {time}) < 0.2")
