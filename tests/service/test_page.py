"""The page in a real browser: what a shop assistant does with it, by mouse and by keyboard.

Needs playwright and a Chromium (Debian's package `chromium`); without them the tests skip.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from shitu_cli.service.page import document
from tests.browser import CHROMIUM, SCREENSHOTS, keep, needs_browser
from tests.service.conftest import KEY, Server, png
from tests.service.test_detector import Boxes, pair

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = playwright.expect
# A camera that shows a test pattern; a sandbox needs rights that a container lacks.
ARGUMENTS = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
DROP = """bytes => {
  const files = new DataTransfer();
  files.items.add(new File([new Uint8Array(bytes)], "dropped.png", {type: "image/png"}));
  dispatchEvent(new DragEvent("drop", {dataTransfer: files, bubbles: true, cancelable: true}));
}"""
EVIL = '<img src=x onerror="document.title=1">&amp;"\'</script>'
PHONE, DESK = {"width": 360, "height": 740}, {"width": 1280, "height": 800}
LOOKS = [(PHONE, "light"), (DESK, "dark"), *([(PHONE, "dark"), (DESK, "light")] if SCREENSHOTS else [])]
Visit = Callable[..., "Visitor"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


class Visitor:
    """A browser window at the page of a server; everything that a browser complains about is collected."""

    def __init__(self, browser: Any, server: Server, address: str, size: dict[str, int], scheme: str) -> None:
        self.server = server
        self.context = browser.new_context(viewport=size, color_scheme=scheme)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.foreign: list[str] = []
        self.page.on("console", lambda message: self._hear(message))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self._watch(request.url, address))
        self.page.set_default_timeout(10_000)
        self.page.goto(address)

    def _hear(self, message: Any) -> None:
        if message.type in ("error", "warning") and "status of 4" not in message.text:
            self.complaints.append(message.text)

    def _watch(self, url: str, address: str) -> None:
        if not url.startswith((address, "blob:", "data:")):
            self.foreign.append(url)

    def drop(self, field: str, *photos: bytes) -> None:
        files = [{"name": f"{n}.png", "mimeType": "image/png", "buffer": data} for n, data in enumerate(photos)]
        self.page.set_input_files(field, files)

    def fits(self) -> bool:
        """Whether nothing sticks out to the right."""
        return bool(self.page.evaluate("document.documentElement.scrollWidth <= innerWidth"))

    def keep(self, name: str) -> None:
        keep(self.page, name)


@pytest.fixture
def visit(browser: Any, make_server: Callable[..., Server]) -> Iterator[Visit]:
    """`visit(size=PHONE, scheme="light", **options)` opens the page of a server with these options."""
    import uvicorn

    visitors: list[Visitor] = []
    running: list[tuple[uvicorn.Server, threading.Thread]] = []

    def open_page(size: dict[str, int] = PHONE, scheme: str = "light", **options: Any) -> Visitor:
        server = make_server(**options)
        listening = socket.create_server(("127.0.0.1", 0))
        web = uvicorn.Server(uvicorn.Config(server.client.app, lifespan="off", log_level="error"))
        thread = threading.Thread(target=web.run, kwargs={"sockets": [listening]})
        thread.start()
        running.append((web, thread))
        address = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        visitors.append(Visitor(browser, server, address, size, scheme))
        return visitors[-1]

    yield open_page
    for visitor in visitors:
        visitor.context.close()
    for web, thread in running:
        web.should_exit = True
        thread.join()
    assert all(visitor.complaints == visitor.foreign == [] for visitor in visitors)


@needs_browser
def test_a_photo_that_cannot_be_read_does_not_stand_under_the_verdict_of_the_one_before(visit: Visit) -> None:
    visitor = visit()
    page = visitor.page
    visitor.drop("#file", png(2, 40, side=200))
    expect(page.locator("#name")).to_have_text("thing 2")
    visitor.drop("#file", b"no image")
    expect(page.locator("#status-text")).to_contain_text("not an image")
    expect(page.locator("#answer")).to_be_hidden()
    visitor.drop("#file", png(3, 40, side=200))
    expect(page.locator("#name")).to_have_text("thing 3")


@needs_browser
@pytest.mark.parametrize("size, scheme", LOOKS)
def test_a_day_in_a_shop(visit: Visit, size: dict[str, int], scheme: str) -> None:
    visitor = visit(size, scheme)
    page = visitor.page
    name = f"{size['width']}-{scheme}"
    visitor.keep(f"{name}-start")

    visitor.drop("#file", png(2, 40, side=200))  # a known product
    expect(page.locator("#name")).to_have_text("thing 2")
    expect(page.locator("#neighbours li")).to_have_count(12)
    expect(page.locator("#why")).to_contain_text("agree")
    assert visitor.fits()
    visitor.keep(f"{name}-known")

    visitor.drop("#file", png(500, 1, side=200))  # an unknown one, which is named
    expect(page.locator("#name")).to_have_text("I do not know this")
    visitor.keep(f"{name}-unknown")
    page.fill("#right-label", EVIL)
    page.click("#correct button")
    expect(page.locator("#name")).to_have_text(EVIL)
    expect(page.locator("#status-text")).to_contain_text("Saved 1 photo")
    assert visitor.server.desk.count() == 16 and visitor.fits()
    page.click("#undo")
    expect(page.locator("#status-text")).to_contain_text("Removed 1 image")
    assert visitor.server.desk.count() == 15

    page.click("#tab-gallery")  # a new product with several photos
    visitor.drop("#product-files", *[png(600, n, side=200) for n in range(3)])
    expect(page.locator("#product-photos li")).to_have_count(3)
    page.click("#product-photos li:first-child button")
    page.fill("#product-name", EVIL)
    visitor.keep(f"{name}-product")
    page.click("#product-save")
    expect(page.locator("#shelf-count")).to_have_text("6 products")
    assert visitor.server.desk.count() == 17 and visitor.fits()
    visitor.keep(f"{name}-shelf")

    page.fill("#filter", "onerror")
    expect(page.locator("#labels li")).to_have_count(1)
    page.click("#labels button")
    expect(page.locator("#item-grid li")).to_have_count(2)
    page.click("#item-grid li:first-child button")  # one of its photos is removed
    expect(page.locator("#large")).to_be_visible()
    expect(page.locator("#large-image")).not_to_have_js_property("naturalWidth", 0)
    visitor.keep(f"{name}-large")
    page.click("#large-remove")
    page.click("#asking button[value=yes]")
    expect(page.locator("#item-grid li")).to_have_count(1)
    page.click("#remove-label")  # then all of it
    page.click("#asking button[value=yes]")
    expect(page.locator("#shelf")).to_be_visible()
    assert visitor.server.desk.count() == 15

    page.click("#tab-map")
    expect(page.locator("#points circle")).to_have_count(15)
    assert visitor.fits() and page.title() == "shitu: what is this?"
    visitor.keep(f"{name}-map")


@needs_browser
def test_by_keyboard_alone(visit: Visit) -> None:
    visitor = visit(key=KEY)
    page = visitor.page
    expect(page.locator("#unlock")).to_be_visible()
    page.keyboard.type("wrong key, and long enough")
    page.keyboard.press("Enter")
    expect(page.locator("#unlock")).to_be_visible()
    page.fill("#key", "")
    page.keyboard.type(KEY)
    page.keyboard.press("Enter")
    expect(page.locator("#unlock")).to_be_hidden()
    page.keyboard.press("Tab")
    page.focus("#tab-recognise")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#labels li")).to_have_count(5)
    page.focus("#labels li:nth-child(3) button")
    page.keyboard.press("Enter")
    expect(page.locator("#items-title")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#large")).to_be_visible()
    expect(page.locator("#large-image")).not_to_have_js_property("naturalWidth", 0)  # fetched with the key
    page.keyboard.press("Escape")
    expect(page.locator("#large")).to_be_hidden()
    expect(page.locator("#item-grid button").first).to_be_focused()
    page.focus("#tab-gallery")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#points circle")).to_have_count(15)
    page.focus("#plot")
    for stroke in ("ArrowRight", "ArrowRight", "ArrowUp", "ArrowLeft"):
        page.keyboard.press(stroke)
    expect(page.locator("#map-here")).to_contain_text("thing")
    page.keyboard.press("Enter")
    expect(page.locator("#large")).to_be_visible()


@needs_browser
def test_a_photo_from_the_camera_and_one_that_is_dropped(visit: Visit) -> None:
    visitor = visit()
    page = visitor.page
    page.click("#camera")
    expect(page.locator("#video")).not_to_have_js_property("videoWidth", 0)
    page.click("#shoot")
    expect(page.locator("#shooting")).to_be_hidden()
    expect(page.locator("#neighbours li")).to_have_count(12)
    page.evaluate(DROP, list(png(4, 7)))
    expect(page.locator("#name")).to_have_text("thing 4")


@needs_browser
def test_a_page_that_only_reads(visit: Visit) -> None:
    visitor = visit(DESK, read_only=True, threshold=None)
    visitor.drop("#file", png(2, 40))
    expect(visitor.page.locator("#lead")).to_have_text("This looks most like")
    expect(visitor.page.locator("#correct")).to_be_hidden()
    visitor.drop("#file", b"no image")
    expect(visitor.page.locator("#status-text")).to_contain_text("not an image")


@needs_browser
def test_each_thing_in_a_photo_is_chosen_and_named(visit: Visit) -> None:
    visitor = visit(detector=Boxes())
    page = visitor.page
    visitor.drop("#file", pair(1, 500, side=200))
    expect(page.locator("#things button")).to_have_text(["thing 1", "unknown"])
    expect(page.locator("#name")).to_have_text("thing 1")
    expect(page.locator("#boxes rect")).to_have_count(2)
    expect(page.locator("#boxes")).to_have_attribute("viewBox", "0 0 400 200")
    assert visitor.fits()
    visitor.keep("360-things")
    page.locator("#boxes rect").nth(1).click()  # the right half
    expect(page.locator("#name")).to_have_text("I do not know this")
    expect(page.locator("#things button").nth(1)).to_have_attribute("aria-pressed", "true")
    page.fill("#right-label", EVIL)
    page.click("#correct button")
    expect(page.locator("#things button")).to_have_count(2)
    expect(page.locator("#things")).to_contain_text(EVIL)
    (item,) = visitor.server.client.get("/items", params={"label": EVIL}).json()["items"]
    assert item["path"].endswith("#200,0,400,200")


@needs_browser
def test_a_wrong_label_in_the_index_is_corrected_and_put_back(visit: Visit) -> None:
    visitor = visit(DESK)
    page = visitor.page

    def count(label: str) -> int:
        return int(visitor.server.client.get("/items", params={"label": label}).json()["count"])

    visitor.drop("#file", (visitor.server.folder / "gallery" / "1-2.png").read_bytes())
    expect(page.locator("#name")).to_have_text("thing 1")
    page.fill("#right-label", "thing 9")
    page.click("#correct button")
    expect(page.locator("#status-text")).to_have_text("Saved 1 photo as “thing 9”, instead of “thing 1”.")
    expect(page.locator("#neighbours li").first).to_contain_text("thing 9")
    assert (count("thing 1"), count("thing 9")) == (2, 1)
    page.click("#undo")
    expect(page.locator("#status-text")).to_contain_text("as “thing 1”")
    assert (count("thing 1"), count("thing 9")) == (3, 0)


def test_the_page_loads_nothing_and_runs_only_itself(server: Server) -> None:
    answer = server.client.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    html = document().html
    addresses = set(re.findall(r"(?:https?:)?//[\w.]+\.\w+", html))
    assert addresses == {"http://www.w3.org"}  # the name of SVG, which nobody fetches
    assert "innerHTML" not in html and "document.write" not in html
