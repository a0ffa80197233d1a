"""Pages in a real browser: they work by pointer and by keyboard, and ask nobody for anything."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from dmsr_cli.images import Image
from dmsr_cli.pages import (
    CompareEntry,
    Exhibit,
    ReportEntry,
    write_compare_page,
    write_report_page,
)
from dmsr_cli.pages.compare_page import compare_pictures
from dmsr_cli.pages.report_figures import report_pictures
from exhibits import HOSTILE_NAMES, exhibit, record

CHROMIUM = next(filter(None, map(shutil.which, ["chromium", "chromium-browser"])), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"] + [
    f"--disable-{what}" for what in ("background-networking", "component-update", "sync")
]
NOISES = {"b.png": 9.5, "d.png": 100.0, "a.png": 22.0}
SENTENCES = {"b.png": "slight noise", "d.png": "strong noise", "a.png": "moderate blur"}
Opened = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for all tests; every page gets a profile of its own, which is empty."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Browser) -> Iterator[Opened]:
    """Opens a file; at the end of the test, nothing may have been fetched, and nothing failed."""
    contexts, troubles = [], []

    def open_file(path: Path, width: int = 1200, scheme: str = "light") -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("dialog", lambda dialog: troubles.append(dialog.message))
        page.on(
            "request",
            lambda request: request.url in (path.as_uri(),) or troubles.append(request.url),
        )
        page.goto(path.as_uri())
        return page

    yield open_file
    for context in contexts:
        context.close()
    assert troubles == []


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """b, d, a with their noise, and a picture that failed between them."""
    entries = [
        ReportEntry(
            record(name, noise_level=level, sentence=SENTENCES[name], warnings=["mind <this>"]),
            report_pictures(exhibit(level=level)),
        )
        for name, level in NOISES.items()
    ]
    failed = {"input": "c.png", "status": "failed", "error": "c.png is not a picture"}
    entries.insert(1, ReportEntry(failed))
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report_page(path, entries, title="A report", replace=False)
    return path


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two black pictures of 300 x 200 that came out white at x2."""
    black = exhibit(200, 300)
    black.image.pixels[:] = 0
    white = Image(np.full((400, 600, 3), 255, np.uint8))
    shown = Exhibit(black.image, black.kernel, black.noise_map, white)
    entries = [CompareEntry(record(name), compare_pictures(shown)) for name in ("a.png", "b.png")]
    path = tmp_path_factory.mktemp("compare") / "compare.html"
    write_compare_page(path, entries, title="A comparison", replace=False)
    return path


def names(page: Page) -> list[str]:
    """Of the rows that are seen, from the top."""
    return [text.strip() for text in page.locator(".opener:visible").all_inner_texts()]


def brightness(page: Page, x: float, y: float) -> float:
    """Of a spot of the first comparison's view, as it is on the screen."""
    box = page.locator(".view").first.bounding_box()
    assert box is not None
    spot = {"x": box["x"] + x, "y": box["y"] + y, "width": 4, "height": 4}
    return float(np.asarray(PIL.Image.open(io.BytesIO(page.screenshot(clip=spot)))).mean())


def wait_until(page: Page, condition: Callable[[], bool]) -> None:
    """The browser's own way of waiting is forbidden by the policy of the pages."""
    for _ in range(100):
        if condition():
            return
        page.wait_for_timeout(50)
    pytest.fail("it did not come true")


class TestReport:
    def test_sorting_by_noise_goes_both_ways_and_back(self, opened: Opened, report: Path) -> None:
        page = opened(report)
        given = ["b.png", "c.png", "d.png", "a.png"]
        assert names(page) == given
        head = page.get_by_role("columnheader", name="Noise")
        for order, expected in (
            ("ascending", ["b.png", "a.png", "d.png", "c.png"]),
            ("descending", ["d.png", "a.png", "b.png", "c.png"]),  # what has no noise stays last
            ("none", given),
        ):
            head.get_by_role("button").click()
            expect(head).to_have_attribute("aria-sort", order)
            assert names(page) == expected

    def test_sorting_by_keyboard(self, opened: Opened, report: Path) -> None:
        page = opened(report)
        page.locator("#filter").focus()
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Name"
        page.keyboard.press("Enter")
        assert names(page) == ["a.png", "b.png", "c.png", "d.png"]
        for _ in range(3):
            page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Noise (of 255)"
        page.keyboard.press("Space")
        assert names(page) == ["b.png", "a.png", "d.png", "c.png"]
        orders = [one.get_attribute("aria-sort") for one in page.locator("th[aria-sort]").all()]
        assert sorted(orders) == ["ascending"] + ["none"] * 6

    def test_filter(self, opened: Opened, report: Path) -> None:
        page = opened(report)
        page.get_by_label("Show only those with").fill("NOISE")
        assert names(page) == ["b.png", "d.png"]
        expect(page.get_by_role("status")).to_have_text("2 of 4 shown")
        page.get_by_label("Show only those with").fill("not a picture")
        assert names(page) == ["c.png"]
        page.get_by_label("Show only those with").fill("")
        assert len(names(page)) == 4
        expect(page.get_by_role("status")).to_have_text("")

    def test_a_row_opens_to_what_was_found(self, opened: Opened, report: Path) -> None:
        page = opened(report)
        opener = page.get_by_role("button", name="d.png")
        detail = page.locator(f"#{opener.get_attribute('aria-controls')}")
        expect(detail).to_be_hidden()
        opener.focus()
        page.keyboard.press("Enter")
        expect(detail).to_be_visible()
        expect(opener).to_have_attribute("aria-expanded", "true")
        expect(detail.get_by_role("listitem")).to_have_text("mind <this>")
        expect(detail.get_by_text("100.00 of 255")).to_be_visible()
        for picture in detail.get_by_role("img").all():
            expect(picture).to_be_visible()
        assert (
            page.evaluate(
                "Promise.all([...document.querySelectorAll('#detail-2 img')]"
                ".map((one) => one.decode().then(() => one.naturalWidth > 0)))"
            )
            == [True] * 3
        )
        page.locator("td.noise").nth(2).click()  # anywhere in the row
        expect(detail).to_be_hidden()

    def test_the_noise_lies_over_the_picture(self, opened: Opened, report: Path) -> None:
        page = opened(report)
        page.get_by_role("button", name="a.png").click()
        overlay = page.locator("#detail-3 .overlay")
        expect(overlay).to_be_hidden()
        page.get_by_label("show where it is noisy").locator("visible=true").check()
        expect(overlay).to_be_visible()
        photo = page.locator("#detail-3 .photo").bounding_box()
        assert overlay.bounding_box() == photo

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_nothing_is_wider_than_a_telephone(
        self, scheme: str, opened: Opened, report: Path
    ) -> None:
        page = opened(report, 390, scheme)
        for button in page.locator(".opener").all():
            button.click()
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
        page.get_by_role("button", name="Noise").click()
        assert names(page)[0] == "b.png"

    def test_hostile_names_are_names(self, opened: Opened, tmp_path: Path) -> None:
        entries = [ReportEntry(record(name), report_pictures(exhibit())) for name in HOSTILE_NAMES]
        write_report_page(tmp_path / "page.html", entries, title=HOSTILE_NAMES[0], replace=False)
        page = opened(tmp_path / "page.html")
        shown = names(page)
        assert shown[:2] == HOSTILE_NAMES[:2]
        assert shown[4] == r"'not in UTF-8 \udcff\udcfe.png'"
        assert page.title() == HOSTILE_NAMES[0]
        assert page.locator("tbody").count() == len(HOSTILE_NAMES)
        assert page.locator("script").count() == 1


class TestComparison:
    def test_the_divider_moves_the_clip(self, opened: Opened, comparison: Path) -> None:
        page = opened(comparison)
        divider = page.get_by_role("slider").first
        after = page.locator(".stage .after").first

        def clip() -> str:
            return str(after.evaluate("(one) => getComputedStyle(one).clipPath"))

        assert clip() == "inset(0px 0px 0px 300px)"
        divider.focus()
        for _ in range(10):
            page.keyboard.press("ArrowLeft")
        assert clip() == "inset(0px 0px 0px 240px)"
        expect(divider).to_have_attribute("aria-valuetext", "40 % before, 60 % after")
        assert brightness(page, 225, 300) < 10
        assert brightness(page, 255, 300) > 245
        page.keyboard.press("Home")
        assert clip() == "inset(0px)"
        assert (
            page.locator(".stage .after").nth(1).evaluate("(one) => getComputedStyle(one).clipPath")
            == "inset(0px 0px 0px 300px)"
        )  # that of the other picture stays

    def test_the_divider_is_dragged(self, opened: Opened, comparison: Path) -> None:
        page = opened(comparison)
        box = page.locator(".view").first.bounding_box()
        assert box is not None
        y = box["y"] + 50  # its handle is as high as the picture
        page.mouse.move(box["x"] + 300, y)
        page.mouse.down()
        page.mouse.move(box["x"] + 450, y, steps=5)
        page.mouse.up()
        assert float(page.get_by_role("slider").first.input_value()) == pytest.approx(75, abs=1)
        line = page.locator(".line").first.bounding_box()
        assert line is not None
        assert line["x"] - box["x"] == pytest.approx(450, abs=6)
        assert brightness(page, 430, 300) < 10
        assert brightness(page, 470, 300) > 245

    def test_zoom_and_scroll_keep_the_divider_in_its_place(
        self, opened: Opened, comparison: Path
    ) -> None:
        page = opened(comparison, 500)
        view = page.locator(".view").first
        assert view.evaluate("(one) => one.scrollWidth - one.clientWidth") == 0  # it fits
        page.get_by_label("x4").check()
        width, height = page.locator(".stage").first.evaluate(
            "(one) => [one.clientWidth, one.clientHeight]"
        )
        assert (width, height) == (2400, 1600)
        middle = view.evaluate("(one) => one.scrollLeft + one.clientWidth / 2")
        assert middle == pytest.approx(1200, abs=2)
        view.hover(position={"x": 50, "y": 50})
        page.mouse.wheel(300, 0)
        seen = view.evaluate("(one) => one.clientWidth")
        left = "(one) => one.scrollLeft"
        wait_until(page, lambda: view.evaluate(left) == pytest.approx(1500 - seen / 2, abs=2))
        clip = re.escape(f"inset(0px 0px 0px {view.evaluate(left) + seen / 2:g}px)")
        expect(page.locator(".stage .after").first).to_have_css("clip-path", re.compile(clip))
        assert brightness(page, seen / 2 - 20, 100) < 10
        assert brightness(page, seen / 2 + 20, 100) > 245
        assert page.evaluate("document.documentElement.scrollWidth") == 500

    def test_plain_enlargement_smoothly_or_as_pixels(
        self, opened: Opened, comparison: Path
    ) -> None:
        page = opened(comparison)
        before = page.locator(".stage .before").first
        manner = "(one) => getComputedStyle(one).imageRendering"
        assert before.evaluate(manner) == "auto"
        page.get_by_label("as pixels").check()
        assert before.evaluate(manner) == "pixelated"
        assert before.evaluate("(one) => one.naturalWidth") == 300

    def test_the_list_leads_to_the_pictures(self, opened: Opened, comparison: Path) -> None:
        page = opened(comparison)
        page.get_by_role("link", name="b.png").click()
        expect(page.get_by_role("heading", name="b.png")).to_be_in_viewport()

    def test_hostile_names_are_names(self, opened: Opened, tmp_path: Path) -> None:
        pictures = compare_pictures(exhibit(scale=2))
        entries = [CompareEntry(record(name), pictures) for name in HOSTILE_NAMES]
        write_compare_page(tmp_path / "page.html", entries, title="A", replace=False)
        page = opened(tmp_path / "page.html")
        assert page.locator("h2").all_inner_texts()[:2] == HOSTILE_NAMES[:2]
        assert page.title() == "A"
        assert page.get_by_role("slider").count() == len(HOSTILE_NAMES)


def test_the_policy_forbids_what_the_page_does_not_bring(browser: Browser, report: Path) -> None:
    page = browser.new_page()
    page.goto(report.as_uri())
    forbidden = page.evaluate("""async () => {
        const forbidden = [];
        document.addEventListener(
            "securitypolicyviolation", (event) => forbidden.push(event.effectiveDirective));
        const script = document.createElement("script");
        script.textContent = "window.taken = true";
        const picture = document.createElement("img");
        picture.src = "http://127.0.0.1:9/picture.png";
        document.body.append(script, picture);
        document.body.setAttribute("onclick", "window.taken = true");
        document.body.click();
        await fetch("http://127.0.0.1:9/").catch(() => null);
        await new Promise((resolve) => setTimeout(resolve, 100));
        return [...forbidden.sort(), window.taken ?? "safe"];
    }""")
    assert forbidden == ["connect-src", "img-src", "script-src-attr", "script-src-elem", "safe"]
    page.close()
