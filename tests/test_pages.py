"""Pages as files: nothing in them is markup that was text, and nothing is fetched."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from dmsr_cli.errors import DmsrError, ExistsError
from dmsr_cli.images import Image
from dmsr_cli.pages import (
    PAGE_BEGINNING,
    CompareEntry,
    ComparePage,
    ReportEntry,
    ReportPage,
    charts,
    write_compare_page,
    write_report_page,
)
from dmsr_cli.pages.compare_page import MOST_PIXELS, compare_pictures
from dmsr_cli.pages.embedding import small_picture
from dmsr_cli.pages.markup import Markup, element
from dmsr_cli.pages.report_figures import report_pictures
from exhibits import HOSTILE_NAMES, exhibit, gaussian, record
from pictures import GREY_PROFILE


class Outline(html.parser.HTMLParser):
    """The elements of a page, with their attributes, and the text of each kind of element."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open = ""
        self.feed(page.read_text("utf-8"))
        self.texts = {tag: [text.strip() for text in texts] for tag, texts in self.texts.items()}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open = tag
        self.texts.setdefault(tag, []).append("")

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts[self._open][-1] += data

    def all(self, tag: str, class_: str | None = None) -> list[dict[str, str | None]]:
        found = [attributes for name, attributes in self.elements if name == tag]
        return [
            one for one in found if class_ is None or class_ in (one.get("class") or "").split()
        ]


def report(path: Path, *entries: ReportEntry) -> Outline:
    write_report_page(path, entries, title="A report", replace=False)
    return Outline(path)


def picture_of(attributes: dict[str, str | None]) -> PIL.Image.Image:
    data = (attributes["src"] or "").partition(";base64,")[2]
    return PIL.Image.open(io.BytesIO(base64.b64decode(data)))


class TestMarkup:
    def test_text_is_escaped_and_markup_is_not(self) -> None:
        made = element("p", "<b>&", element("b", "'\""), title='"<>', hidden=True, role=None)
        expected = '<p title="&quot;&lt;&gt;" hidden>&lt;b&gt;&amp;<b>&#x27;&quot;</b></p>'
        assert made == expected
        assert isinstance(made, Markup)

    def test_names_of_attributes(self) -> None:
        made = element("img", class_="a", aria_label="b", alt="", width=3)
        assert made == '<img class="a" aria-label="b" alt="" width="3">'


class TestDocument:
    def test_policy_names_what_is_in_the_page_and_nothing_else(self, tmp_path: Path) -> None:
        page = report(tmp_path / "page.html", ReportEntry(record(), report_pictures(exhibit())))
        (policy,) = [
            one["content"] for one in page.all("meta") if one.get("http-equiv") is not None
        ]
        assert policy is not None
        rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
        assert rules["default-src"] == "'none'"
        assert rules["img-src"] == "data:"
        text = (tmp_path / "page.html").read_text("utf-8")
        for kind in ("style", "script"):
            (content,) = re.findall(f"<{kind}>(.*?)</{kind}>", text, re.DOTALL)
            digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
            assert rules[f"{kind}-src"] == f"'sha256-{digest}'"

    def test_nothing_is_fetched(self, tmp_path: Path) -> None:
        pages = [tmp_path / "report.html", tmp_path / "compare.html"]
        shown = exhibit(scale=2)
        report(pages[0], ReportEntry(record(), report_pictures(shown)))
        entries = [CompareEntry(record(), compare_pictures(shown))]
        write_compare_page(pages[1], entries, title="A", replace=False)
        for path in pages:
            page = Outline(path)
            for _, attributes in page.elements:
                for name in ("src", "href"):
                    address = attributes.get(name)
                    assert address is None or address.startswith(("data:", "#"))
                assert not [name for name in attributes if name.startswith("on") or name == "style"]
            text = path.read_text("utf-8")
            assert not re.search(r"url\(|@import|https?://|fetch\(", text)

    def test_it_is_whole_or_not_there(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "page.html"
        page = ReportPage()
        page.add(record(), None)

        def fail(*arguments: Any) -> bytes:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("dmsr_cli.pages.document.Spool.get", fail)
        with pytest.raises(DmsrError, match=r"page\.html: No space left on device"):
            page.write(path, title="A", replace=True)
        assert list(tmp_path.iterdir()) == []

    def test_it_is_replaced_only_if_that_is_wanted(self, tmp_path: Path) -> None:
        path = tmp_path / "page.html"
        path.write_bytes(b"precious")
        with pytest.raises(ExistsError):
            write_report_page(path, [], title="A", replace=False)
        assert path.read_bytes() == b"precious"
        write_report_page(path, [], title="A", replace=True)
        assert path.read_bytes().startswith(PAGE_BEGINNING)

    @pytest.mark.parametrize("name", HOSTILE_NAMES)
    def test_hostile_text_stays_text(self, name: str, tmp_path: Path) -> None:
        about = record(name, warnings=[name], sentence=name, model=name, output=name, error=name)
        pictures = exhibit(scale=2)
        plain = record("plain", warnings=["w"], sentence="s", model="m", output="o", error="e")

        def elements(told: dict[str, Any], title: str) -> list[list[str]]:
            entries = [ReportEntry(told, report_pictures(pictures))]
            write_report_page(tmp_path / "r.html", entries, title=title, replace=True)
            compared = [CompareEntry(told, compare_pictures(pictures))] * 2
            write_compare_page(tmp_path / "c.html", compared, title=title, replace=True)
            return [[tag for tag, _ in Outline(tmp_path / f"{one}.html").elements] for one in "rc"]

        assert elements(about, name) == elements(plain, "title")


class TestReportPage:
    def test_a_failed_input_has_its_error_and_no_picture(self, tmp_path: Path) -> None:
        failed = {"input": "b.png", "status": "failed", "error": "b.png is no picture"}
        entries = ReportEntry(record(), report_pictures(exhibit())), ReportEntry(failed)
        page = report(tmp_path / "page.html", *entries)
        assert [one["class"] for one in page.all("tbody")] == ["ok", "failed"]
        assert len(page.all("img", "thumbnail")) == 1
        assert "b.png is no picture" in page.texts["td"]
        assert "2 pictures: 1 done, 0 skipped, 1 failed." in page.texts["p"]

    def test_columns_without_values_are_not_shown(self, tmp_path: Path) -> None:
        page = report(tmp_path / "a.html", ReportEntry(record()))
        expected = {"thumbnail", "finding", "confidence", "consistency"}
        (table,) = page.all("table")
        assert set((table["class"] or "").split()) == {f"without-{name}" for name in expected}
        more = record(sentence="it is noisy", kernel_confidence=0.9, consistency=31.2)
        page = report(tmp_path / "b.html", ReportEntry(more), ReportEntry(record()))
        (table,) = page.all("table")
        assert table["class"] == "without-thumbnail"

    def test_what_is_sorted_by(self, tmp_path: Path) -> None:
        about = record(
            **{"kernel_confidence": 0.9, "noise_confidence": 0.25, "consistency": None},
            noise_level=float("nan"),
        )
        page = report(tmp_path / "page.html", ReportEntry(about))
        values = {one["class"]: one["data-value"] for one in page.all("td") if "data-value" in one}
        assert values == {
            **{"name": "a.png", "finding": "", "blur": "1.3", "noise": ""},
            **{"confidence": "0.25", "consistency": "", "size": "2240"},
        }

    def test_pictures_are_small(self, tmp_path: Path) -> None:
        shown = exhibit(500, 1500, scale=1)
        page = report(tmp_path / "page.html", ReportEntry(record(), report_pictures(shown)))
        (thumbnail,) = page.all("img", "thumbnail")
        assert picture_of(thumbnail).size == (160, 53)
        assert [picture_of(one).size for one in page.all("img", "photo")] == [(640, 213)] * 2
        (kernel,) = page.all("img", "kernel")
        assert (picture_of(kernel).format, picture_of(kernel).size) == ("PNG", (15, 15))
        (noise,) = page.all("img", "overlay")
        assert picture_of(noise).mode == "RGBA"
        assert max(picture_of(noise).size) <= 160

    def test_beyond_the_budget_only_thumbnails_are_shown(self, tmp_path: Path) -> None:
        one = report_pictures(exhibit())
        budget = ReportPage(photo_bytes=2 * 10**4)
        for number in range(20):
            budget.add_entry(ReportEntry(record(f"{number}.png"), one))
        budget.write(tmp_path / "page.html", title="A", replace=False)
        page = Outline(tmp_path / "page.html")
        photos = len(page.all("img", "photo"))
        assert 0 < photos < 20
        assert len(page.all("img", "thumbnail")) == len(page.all("img", "kernel")) == 20
        said = [text for text in page.texts["p"] if "thumbnails only" in text]
        assert said == [
            f"{20 - photos} are shown as thumbnails only, or this page would be too large to be "
            "opened."
        ]

    def test_what_is_not_in_the_spool_takes_no_memory(self) -> None:
        page = ReportPage()
        kept = page.keep(exhibit(400, 600))
        assert kept.kernel.nbytes + kept.histogram.counts.nbytes < 2000
        assert kept.photos is not None
        assert kept.photos.length > 10_000


class TestComparePage:
    @pytest.mark.parametrize("scale", [2, 3])
    def test_the_middle_of_what_is_large(self, scale: int, monkeypatch: Any) -> None:
        monkeypatch.setattr("dmsr_cli.pages.compare_page.MOST_PIXELS", 2000)
        shown = exhibit(41, 61, scale=scale)
        # A dot that is in the middle of both pictures.
        shown.image.pixels[:] = 0
        assert shown.result is not None
        shown.result.pixels[:] = 0
        shown.image.pixels[20, 30] = 1
        shown.result.pixels[20 * scale : 21 * scale, 30 * scale : 31 * scale] = 1
        pictures = compare_pictures(shown)
        height, width = pictures.before.shape[:2]
        assert pictures.after.shape == (height * scale, width * scale, 3)
        assert 1000 < pictures.after.size / 3 <= 2000
        enlarged = pictures.before.repeat(scale, 0).repeat(scale, 1)
        assert np.array_equal(enlarged, pictures.after)
        assert pictures.after.max() == 255

    def test_it_says_what_is_shown(self, tmp_path: Path) -> None:
        side = int(MOST_PIXELS**0.5) + 100
        large = Image(np.zeros((side, side, 3), np.uint8))
        shown = exhibit(side // 4, side // 4)
        entry = CompareEntry(
            record(),
            compare_pictures(type(shown)(shown.image, shown.kernel, shown.noise_map, large)),
        )
        write_compare_page(tmp_path / "page.html", [entry], title="A", replace=False)
        page = Outline(tmp_path / "page.html")
        (said,) = [text for text in page.texts["p"] if "middle" in text]
        assert f"525x525 → {side}x{side}, of which this is the middle" in said
        assert "JPEG of quality 92" in said
        assert picture_of(page.all("img", "after")[0]).format == "JPEG"
        assert picture_of(page.all("img", "before")[0]).format == "PNG"

    def test_very_long_pictures(self) -> None:
        shown = exhibit(1, 30_000, scale=2)
        assert compare_pictures(shown).after.shape == (2, 16_000, 3)

    def test_results_smaller_than_the_input(self) -> None:
        shown = exhibit(40, 60)
        small = type(shown)(*(shown.image, shown.kernel, shown.noise_map), Image(smooth_small()))
        pictures = compare_pictures(small)
        assert pictures.before.shape == pictures.after.shape == (20, 30, 3)

    def test_what_was_not_restored_is_only_counted(self, tmp_path: Path) -> None:
        failed = {"input": "b.png", "status": "failed", "error": "b.png is no picture"}
        entries = [
            CompareEntry(failed),
            CompareEntry(record("c.png", status="skipped")),
            CompareEntry(record(), compare_pictures(exhibit(scale=2))),
        ]
        write_compare_page(tmp_path / "page.html", entries, title="A", replace=False)
        page = Outline(tmp_path / "page.html")
        assert "3 pictures: 1 done, 1 skipped, 1 failed." in page.texts["p"]
        assert page.texts["h2"] == ["a.png"]
        assert not page.all("nav")

    def test_a_full_page_names_what_is_left_out(self, tmp_path: Path) -> None:
        pictures = compare_pictures(exhibit(scale=2))
        page = ComparePage(page_bytes=60_000)
        for number in range(30):
            page.add_entry(CompareEntry(record(f"{number}.png"), pictures))
        page.write(tmp_path / "page.html", title="A", replace=False)
        outline = Outline(tmp_path / "page.html")
        shown = len(outline.all("section"))
        assert 0 < shown < 10
        (said,) = [text for text in outline.texts["p"] if "left out" in text]
        assert said.startswith(f"{30 - shown} are left out, ")
        assert f"opened: {shown}.png, {shown + 1}.png" in said
        assert said.endswith(", ...")
        assert [one["href"] for one in outline.all("a")] == [
            f"#picture-{number + 1}" for number in range(shown)
        ]


def smooth_small() -> np.ndarray:
    return np.zeros((20, 30, 3), np.float32)


class TestPictures:
    def test_transparent_parts_are_white(self) -> None:
        alpha = np.ones((8, 8), np.float32)
        alpha[:, 4:] = 0
        image = Image(np.zeros((8, 8, 3), np.float32), alpha)
        assert small_picture(image, 100)[0, [0, 7], 0].tolist() == [0, 255]

    def test_colours_are_those_of_the_profile(self) -> None:
        grey = Image(np.full((8, 8, 3), 0.5, np.float32), grey=True, icc_profile=GREY_PROFILE)
        plain = Image(grey.pixels, grey=True)
        assert small_picture(plain, 100)[0, 0, 0] == 128
        assert small_picture(grey, 100)[0, 0, 0] != 128

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
    def test_large_ones_are_averaged(self, dtype: type) -> None:
        white = 1 if dtype is np.float32 else np.iinfo(dtype).max
        checks = (np.indices((900, 1300)).sum(0) // 10 % 2 * white).astype(dtype)
        small = small_picture(Image(np.repeat(checks[..., None], 3, axis=2)), 50)
        assert small.shape == (35, 50, 3)
        assert abs(float(small.mean()) - 127.5) < 2

    @pytest.mark.parametrize("shape", [(1, 1), (1, 700), (900, 1), (3, 5)])
    def test_tiny_ones(self, shape: tuple[int, int], tmp_path: Path) -> None:
        shown = exhibit(*shape, scale=4)
        report(tmp_path / "r.html", ReportEntry(record(), report_pictures(shown)))
        entries = [CompareEntry(record(), compare_pictures(shown))]
        write_compare_page(tmp_path / "c.html", entries, title="A", replace=False)

    def test_noise_is_red_where_it_is_strong(self) -> None:
        noise = np.zeros((64, 64, 3), np.float32)
        noise[:, 32:] = np.random.default_rng(0).standard_normal((64, 32, 3)) * 0.1
        overlay = charts.noise_overlay(noise)
        assert overlay[0, 0].tolist()[3] == 0
        assert overlay[..., 3][:, -1].min() > 60
        assert (overlay[..., 0] == 255).all()

    def test_no_noise_is_not_red(self) -> None:
        assert charts.noise_overlay(np.zeros((20, 20, 3), np.float32))[..., 3].max() == 0
        faint = np.full((20, 20, 3), 0.1 / 255, np.float32)
        assert charts.noise_overlay(faint)[..., 3].max() < 20

    @pytest.mark.parametrize("level", [0, 0.001, 20])
    def test_histogram(self, level: float) -> None:
        noise = np.random.default_rng(0).standard_normal((90, 80, 3)).astype(np.float32)
        histogram = charts.histogram_of(noise * np.float32(level / 255))
        assert histogram.counts.sum() == noise.size
        assert histogram.level == pytest.approx(level, rel=0.02)
        assert histogram.counts.argmax() in range(18, 23)
        chart = charts.histogram_chart(histogram)
        assert "nan" not in chart
        assert ("gaussian" in chart) == (level == 20)

    def test_the_bell_is_as_high_as_the_bars_of_a_gaussian(self) -> None:
        noise = np.random.default_rng(0).standard_normal((300, 300, 3)).astype(np.float32)
        chart = charts.histogram_chart(charts.histogram_of(noise / 10))
        (points,) = re.findall(r'points="([^"]+)"', chart)
        top = min(float(point.split(",")[1]) for point in points.split())
        bars = [float(height) for height in re.findall(r"v-([\d.]+)", chart)]
        assert charts.BASE - top == pytest.approx(max(bars), rel=0.05)

    def test_profile_of_a_gaussian_is_that_gaussian(self) -> None:
        chart = charts.profile_chart(gaussian(1.7), 1.7)
        across, down, nearest = re.findall(r'points="([^"]+)"', chart)
        assert across == down == nearest
        assert "gaussian" not in charts.profile_chart(gaussian(1.7), None)
