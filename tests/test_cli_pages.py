"""--report FILE.html and --compare-page: what gets into the pages, and what they may replace."""

from __future__ import annotations

import re
import signal
import threading
from pathlib import Path
from typing import Any

import click
import numpy as np
import PIL.Image
import pytest

from dmsr_cli import pages, pipeline
from dmsr_cli.cli.batch import page_files
from dmsr_cli.cli.batch.checks import check_pages
from dmsr_cli.cli.batch.report import BatchReport
from dmsr_cli.cli.main import main
from dmsr_cli.weights import save_weights
from tiny_weights import tiny_model


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """album/ with a.png, b.png, c.png of 12 x 9; the folder above it is the current one."""
    monkeypatch.chdir(tmp_path)
    save_weights(tiny_model(scale=2), tmp_path / "tiny.safetensors")
    Path("album").mkdir()
    for seed, name in enumerate("abc"):
        pixels = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
        PIL.Image.fromarray(pixels).save(f"album/{name}.png")
    return tmp_path


def run(command: str, *arguments: str) -> int:
    return main([command, *arguments, "--model", "tiny.safetensors"])


def names_in(page: str) -> list[str]:
    """Of the inputs that a page shows, in its order."""
    text = Path(page).read_text("utf-8")
    return re.findall(r"<h2>(.*?)</h2>|aria-controls=.*?>(.*?)</button>", text)


def reported(page: str) -> list[str]:
    return [name for _, name in names_in(page)]


def compared(page: str) -> list[str]:
    return [name for name, _ in names_in(page)]


class TestReportPage:
    @pytest.mark.parametrize("command", ["estimate", "upscale"])
    def test_all_inputs_are_in_it(self, command: str, folder: Path) -> None:
        Path("album/b.png").write_bytes(b"no picture")
        assert run(command, "album", "--report", "page.html") == 1
        assert reported("page.html") == ["album/a.png", "album/b.png", "album/c.png"]
        text = Path("page.html").read_text("utf-8")
        assert "3 pictures: 2 done, 0 skipped, 1 failed." in text
        assert "album/b.png is not a picture" in text
        assert len(re.findall(r'<img class="photo"', text)) == (4 if command == "upscale" else 2)
        assert not list(folder.glob(".*"))

    def test_skipped_ones_say_why(self, folder: Path) -> None:
        options = ["-o", "out/", "--skip-existing"]
        assert run("upscale", "album/a.png", *options) == 0
        pages = ["--report", "r.html", "--compare-page", "c.html"]
        assert run("upscale", "album", *options, *pages) == 0
        text = Path("r.html").read_text("utf-8")
        assert "3 pictures: 2 done, 1 skipped, 0 failed." in text
        assert ">up to date</td>" in text
        assert compared("c.html") == ["album/b.png", "album/c.png"]

    def test_other_names_get_json_lines(self, folder: Path) -> None:
        assert run("estimate", "album", "--report", "report.jsonl") == 0
        assert Path("report.jsonl").read_bytes().startswith(b'{"input"')

    def test_standard_input(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        class Stream:
            buffer = Path("album/a.png").open("rb")  # noqa: SIM115 - it is read as the test goes

        monkeypatch.setattr("sys.stdin", Stream)
        assert run("estimate", "-", "--report", "page.html") == 0
        assert reported("page.html") == ["standard input"]

    def test_frames(self, folder: Path) -> None:
        frames = [PIL.Image.new("RGB", (12, 9), colour) for colour in ("red", "blue")]
        frames[0].save("moving.gif", save_all=True, append_images=frames[1:])
        options = ["--report", "r.html", "--compare-page", "c.html"]
        assert run("upscale", "moving.gif", *options) == 0
        assert reported("r.html") == ["moving.gif"]
        assert "the first of 2 frames" in Path("c.html").read_text("utf-8")

    def test_it_is_written_when_the_batch_is_interrupted(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls = []
        heard = threading.Event()
        original = pipeline.estimate

        def estimate(*arguments: Any, **options: Any) -> Any:
            calls.append(arguments)
            if len(calls) == 2:
                signal.raise_signal(signal.SIGINT)  # in this thread, which waits for it
                assert heard.wait(10)
            return original(*arguments, **options)

        monkeypatch.setattr(BatchReport, "announce_the_end", lambda report: heard.set())
        monkeypatch.setattr(pipeline, "estimate", estimate)
        assert run("estimate", "album", "--report", "page.html") == 130
        assert reported("page.html") == ["album/a.png", "album/b.png"]
        assert "interrupted: 1 more was not begun" in Path("page.html").read_text("utf-8")


class TestComparePage:
    def test_what_was_restored_is_in_it(self, folder: Path) -> None:
        Path("album/b.png").write_bytes(b"no picture")
        assert run("upscale", "album", "--compare-page", "page.html") == 1
        assert compared("page.html") == ["album/a.png", "album/c.png"]
        assert "12x9 → 24x18" in Path("page.html").read_text("utf-8")
        results = sorted(path.name for path in Path("album_x2").glob("*.png"))
        assert results == ["a_x2.png", "c_x2.png"]  # --compare is another thing

    def test_beside_compare_and_a_report(self, folder: Path) -> None:
        options = ["--compare-page", "c.html", "--report", "r.html", "--compare"]
        assert run("upscale", "album", *options) == 0
        assert compared("c.html") == reported("r.html")
        assert len(list(Path("album_x2").glob("*_compare.png"))) == 3

    def test_only_pages(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("upscale", "album", "--compare-page", "page.png") == 2
        assert "its name ends in .html" in capsys.readouterr().err
        assert not Path("album_x2").exists()


class TestPlaces:
    @pytest.mark.parametrize("option", ["--report", "--compare-page"])
    @pytest.mark.parametrize(
        ("name", "more", "said"),
        [
            ("precious.html", ["--overwrite"], "precious.html exists and is no page of dmsr"),
            ("precious.html", [], "precious.html exists and is no page of dmsr"),
            ("folder.html", ["--overwrite"], "folder.html exists and is not a file"),
            ("nowhere/page.html", [], "there is no folder nowhere; create it first"),
            ("album/input.html", ["--overwrite"], "is an input, or a result"),
            ("nothing.html", ["--overwrite"], "nothing.html exists and is not a file"),
            ("link.html", ["--overwrite"], "link.html exists and is no page of dmsr"),
        ],
    )
    def test_what_must_not_be_replaced(
        self,
        option: str,
        name: str,
        more: list[str],
        said: str,
        folder: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        Path("precious.html").write_text("precious")
        Path("folder.html").mkdir()
        Path("link.html").symlink_to("album/b.png")
        Path("nothing.html").symlink_to("nowhere")
        Path("album/a.png").rename("album/input.html")
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        inputs = ["album/input.html", "album/b.png"]
        assert run("upscale", *inputs, "-o", "out/", option, name, *more) == 2
        error = capsys.readouterr().err
        assert said in error
        assert len(error.splitlines()) == 1
        assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before

    @pytest.mark.parametrize("option", ["--report", "--compare-page"])
    def test_a_page_of_ours_is_replaced_if_that_is_wanted(
        self, option: str, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run("upscale", "album", "-o", "one/", option, "page.html") == 0
        before = Path("page.html").read_bytes()
        assert run("upscale", "album/a.png", "-o", "two/", option, "page.html") == 2
        assert "the page page.html exists already: use --overwrite" in capsys.readouterr().err
        assert Path("page.html").read_bytes() == before
        assert not Path("two").exists()
        arguments = ["album/a.png", "-o", "two/", option, "page.html", "--overwrite"]
        assert run("upscale", *arguments) == 0
        assert len(names_in("page.html")) == 1

    def test_two_pages_in_one_place(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        options = ["--report", "page.html", "--compare-page", "./album/../page.html"]
        assert run("upscale", "album", *options) == 2
        assert "name the same file" in capsys.readouterr().err

    def test_a_dry_run_writes_none(self, folder: Path) -> None:
        options = ["--report", "r.html", "--compare-page", "c.html", "--dry-run"]
        assert run("upscale", "album", *options) == 0
        assert not list(folder.glob("*.html"))

    def test_several_processes_have_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("dmsr_cli.cli.batch.sharing.launched_size", lambda: 2)
        check_pages(Path("report.jsonl"), None)
        for report, comparison in ((Path("a.html"), None), (None, Path("a.html"))):
            with pytest.raises(click.UsageError, match="cannot share --"):
                check_pages(report, comparison)


class TestFailures:
    @pytest.mark.parametrize("when", ["keep", "add", "write"])
    def test_a_page_that_fails_ends_no_batch(
        self,
        when: str,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        def fail(*arguments: Any, **options: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(pages.ReportPage, when, fail)
        assert run("upscale", "album", "--report", "page.html") == 0
        error = capsys.readouterr().err
        said = "warning: the page page.html is given up: No space left on device"
        assert error.count(said) == 1
        assert "3 done, 0 skipped, 0 failed" in error
        assert not Path("page.html").exists()

    def test_pictures_stay_with_their_record(self, folder: Path) -> None:
        """A record that is never told leaves no pictures to another one."""
        page = page_files.report_file(Path("page.html"), print, replace=False)
        shown: list[Any] = []

        class Page:
            def keep(self, exhibit: Any) -> str:
                return f"pictures of {exhibit}"

            def add(self, record: dict[str, Any], kept: Any) -> None:
                shown.append((record["input"], kept))

        page._page = Page()  # type: ignore[assignment]
        for number in range(100):
            page.keep({"input": "untold"}, number)  # type: ignore[arg-type]
            page.write({"input": "failed"})
        one, other = {"input": "same"}, {"input": "same"}
        page.keep(one, "one")  # type: ignore[arg-type]
        page.keep(other, "other")  # type: ignore[arg-type]
        page.write(other)
        page.write(one)
        assert shown[:100] == [("failed", None)] * 100
        assert shown[100:] == [("same", "pictures of other"), ("same", "pictures of one")]
