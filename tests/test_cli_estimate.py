"""`dmsr estimate`: its lines, its JSON, what it saves, and how it sorts and chooses."""

from __future__ import annotations

import json
import math
import os
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from dmsr_cli import pipeline
from dmsr_cli.cli.estimate import _wrapped
from dmsr_cli.cli.main import main
from dmsr_cli.weights import save_weights
from pictures import needs_posix, noise, save
from tiny_weights import tiny_model

SCHEMA = json.loads(
    (Path(__file__).parent.parent / "docs" / "estimate.schema.json").read_text("utf-8")
)
MODEL = ("--model", "tiny.safetensors")
JSON_TYPES: dict[str, Any] = {
    **{"null": type(None), "string": str, "array": list},
    **{"integer": int, "number": (int, float), "boolean": bool},
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three pictures whose noise grows with their names backwards, and a tiny model."""
    monkeypatch.chdir(tmp_path)
    save_weights(tiny_model(), tmp_path / "tiny.safetensors")
    Path("album").mkdir()
    for name, height, level in (("a", 9, 40), ("b", 10, 20), ("c", 11, 5)):
        pixels = 128 + (noise(height, 12, 3, seed=1).astype(float) - 128) * level / 128
        save(Path("album") / f"{name}.png", pixels.astype(np.uint8))
    return tmp_path


@pytest.fixture
def levels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Estimates of 40, 20 and 5 for the pictures of 9, 10 and 11 rows, and of other widths."""
    by_rows = {9: (40.0, 1.0), 10: (20.0, 3.0), 11: (5.0, 2.0)}
    original = pipeline.estimate

    def known(image: Any, model: Any) -> pipeline.Degradation:
        level, width = by_rows[image.height]
        return original(image, model).with_noise_level(level).with_kernel_width(width)

    monkeypatch.setattr(pipeline, "estimate", known)


def estimate(*arguments: object) -> int:
    return main(["estimate", *map(str, arguments), *MODEL])


def strict(line: str) -> dict[str, Any]:
    def refuse(text: str) -> None:
        raise AssertionError(f"{text} in JSON")

    record: dict[str, Any] = json.loads(line, parse_constant=refuse)
    return record


def check_schema(record: dict[str, Any]) -> None:
    """What the schema says, with the keywords that it uses."""
    assert list(record) == SCHEMA["required"] == list(SCHEMA["properties"])
    for name, value in record.items():
        rule = SCHEMA["properties"][name]
        types = rule["type"] if isinstance(rule["type"], list) else [rule["type"]]
        assert any(isinstance(value, JSON_TYPES[one]) for one in types), name
        assert not isinstance(value, bool), name
        assert "enum" not in rule or value in rule["enum"], name
        for one in value if isinstance(value, list) else ():
            assert isinstance(one, JSON_TYPES[rule["items"]["type"]]), name
        if isinstance(value, list) and "minItems" in rule:
            assert rule["minItems"] <= len(value) <= rule["maxItems"], name
        if isinstance(value, int | float):
            assert math.isfinite(value), name
            assert value >= rule.get("minimum", -math.inf), name
            assert value <= rule.get("maximum", math.inf), name
            assert value < rule.get("exclusiveMaximum", math.inf), name


class TestJson:
    def test_it_is_as_the_schema_says(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert estimate("album", "none.png", "--json", "-o", "what") == 1
        records = [strict(line) for line in capsys.readouterr().out.splitlines()]
        assert [record["status"] for record in records] == ["ok"] * 3 + ["failed"]
        for record in records:
            check_schema(record)
        good, failed = records[0], records[-1]
        assert good["output"] == str(Path("what/a_png"))
        assert "blur, about" in good["sentence"]
        assert failed["noise_levels"] is None
        assert failed["reservations"] == []

    @pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (2, 2), (40, 40)])
    @pytest.mark.parametrize("kind", ["black", "white", "grey", "noise"])
    def test_of_pictures_that_show_nothing(
        self, size: tuple[int, int], kind: str, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        level = {"black": 0, "white": 255, "grey": 120}.get(kind)
        pixels = noise(*size, 3) if level is None else np.full((*size, 3), level, np.uint8)
        save(folder / "odd.png", pixels)
        assert estimate("odd.png", "--json") == 0
        record = strict(capsys.readouterr().out)
        check_schema(record)
        assert record["reservations"]
        assert min(record["kernel_confidence"], record["noise_confidence"]) < 0.3

    def test_a_report_is_not_appended_to(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Nor is an option named that this command does not have."""
        Path("r.jsonl").touch()
        assert estimate("album", "--report", "r.jsonl") == 2
        said = capsys.readouterr().err
        assert "the report r.jsonl exists already: use --overwrite, or another name" in said

    def test_the_report_has_the_same(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert estimate("album", "--json", "--report", "r.jsonl") == 0
        *written, _ = Path("r.jsonl").read_text("utf-8").splitlines()
        assert written == capsys.readouterr().out.splitlines()


class TestText:
    def test_a_line_for_a_picture(
        self, folder: Path, levels: None, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert estimate("album") == 0
        lines = capsys.readouterr().out.splitlines()
        first = re.fullmatch(
            r"album/a\.png: slight blur, about 1\.0 px at x4 \(\d+% sure\); very strong noise, "
            r"sigma about 40 \((R \d+, G \d+, B \d+; )?\d+% sure\)",
            lines[0].replace("\\", "/"),
        )
        assert first, lines[0]
        assert all(line.startswith(("album", "  ")) for line in lines)
        assert "  the picture is small: there is little to judge it by" in lines

    def test_a_kernel_that_is_not_round(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        kernel = np.zeros((15, 15), np.float32)
        kernel[np.arange(10, 3, -1), np.arange(4, 11)] = 1 / 7  # rises to the right
        original = pipeline.estimate
        monkeypatch.setattr(
            pipeline,
            "estimate",
            lambda image, model: pipeline.Degradation(kernel, original(image, model).noise_map),
        )
        assert estimate("album/a.png") == 0
        assert re.search(r"\n  the kernel is \d\.\d times as long as wide, at 45 degrees\n",
                         capsys.readouterr().out)  # fmt: skip
        assert estimate("album/a.png", "--json") == 0
        record = strict(capsys.readouterr().out)
        check_schema(record)
        assert record["orientation"] == 45

    @pytest.mark.parametrize("columns", [60, 80])
    def test_a_terminal_gets_short_lines(
        self, columns: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", str(columns))
        text = f"photo.png: {'slight blur; ' * 12}end\n  {'the picture is small ' * 6}end"
        lines = _wrapped(text).splitlines()
        assert max(map(len, lines)) <= columns
        assert " ".join("\n".join(lines).split()) == " ".join(text.split())
        assert [line[:2] for line in lines].count("ph") == 1
        assert all(line.startswith("  ") for line in lines[1:])


class TestSaved:
    def test_the_noise_over_the_photo(self, folder: Path) -> None:
        assert estimate("album", "-o", "what") == 0
        with PIL.Image.open("what/a_png_noise_overlay.png") as overlay:
            assert overlay.mode == "RGB"
            assert overlay.height > overlay.width * 9 / 12
        assert np.load("what/a_png_kernel.npy").shape == (15, 15)
        assert np.load("what/a_png_noise.npy").shape == (9, 12, 3)

    def test_nothing_is_replaced(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        Path("what").mkdir()
        Path("what/a_png_noise_overlay.png").write_bytes(b"mine")
        assert estimate("album/a.png", "-o", "what") == 1
        assert "--overwrite" in capsys.readouterr().err
        assert [path.name for path in Path("what").iterdir()] == ["a_png_noise_overlay.png"]
        assert Path("what/a_png_noise_overlay.png").read_bytes() == b"mine"
        assert estimate("album/a.png", "-o", "what", "--overwrite") == 0
        assert len(list(Path("what").iterdir())) == 6

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["album", "-o", "x.dmsr.json"], "use --mean"),
            (["album", "--mean"], "--mean needs -o FILE.dmsr.json"),
            (["album", "--mean", "-o", "what"], "--mean needs -o FILE.dmsr.json"),
        ],
    )
    def test_what_does_not_go_together(
        self, arguments: list[str], said: str, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = sorted(Path().iterdir())
        assert estimate(*arguments) == 2
        assert said in capsys.readouterr().err
        assert sorted(Path().iterdir()) == before

    def test_a_degradation_file(self, folder: Path, levels: None) -> None:
        assert estimate("album/a.png", "-o", "new/x.dmsr.json") == 0
        written = json.loads(Path("new/x.dmsr.json").read_text("utf-8"))
        assert (written["scale"], written["source"]) == (4, "a.png")
        assert written["noise_level"] == pytest.approx(40, abs=0.01)
        assert estimate("album/b.png", "-o", "new/x.dmsr.json") == 1
        assert json.loads(Path("new/x.dmsr.json").read_text("utf-8")) == written

    def test_the_mean(self, folder: Path, levels: None, capsys: pytest.CaptureFixture[str]) -> None:
        arguments = ["album", "--mean", "-o", "x.dmsr.json", "--where", "noise_level > 10"]
        assert estimate(*arguments) == 0
        written = json.loads(Path("x.dmsr.json").read_text("utf-8"))
        assert written["source"] == "mean of 2 pictures"
        assert written["noise_level"] == pytest.approx(math.sqrt((40**2 + 20**2) / 2), abs=0.01)
        assert "x.dmsr.json: mean of 2 pictures: " in capsys.readouterr().err
        assert estimate("album", "--mean", "-o", "y.dmsr.json", "--where", "width > 99") == 1
        assert "no picture" in capsys.readouterr().err
        assert not Path("y.dmsr.json").exists()


class TestTriage:
    @pytest.mark.parametrize(
        ("order", "expected"), [("noise", "abc"), ("blur", "bca"), ("name", "abc")]
    )
    def test_sorted(
        self,
        order: str,
        expected: str,
        folder: Path,
        levels: None,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        inputs = ["album/c.png", "none.png", "album/b.png", "album/a.png"]
        assert estimate(*inputs, "--sort", order) == 1
        said = capsys.readouterr()
        assert "".join(re.findall(r"^album.(\w)\.png", said.out, re.MULTILINE)) == expected
        assert "none.png" in said.err
        assert estimate(*inputs, "--sort", order, "--json", "--report", "r.jsonl") == 1
        records = [strict(line) for line in capsys.readouterr().out.splitlines()]
        names = [Path(one["input"]).stem for one in records if one["status"] == "ok"]
        assert "".join(names) == expected
        assert len(records) == 4
        *_, last = Path("r.jsonl").read_text("utf-8").splitlines()
        assert json.loads(last)["summary"]["ok"] == 3

    def test_chosen(self, folder: Path, levels: None, capsys: pytest.CaptureFixture[str]) -> None:
        where = ["--where", "noise_level > 10 and height != 9 or kernel_width == 2"]
        assert estimate("album", "none.png", *where) == 1
        said = capsys.readouterr()
        assert said.out.replace("\\", "/") == "album/b.png\nalbum/c.png\n"
        assert "3 done, 0 skipped, 1 failed" in said.err
        assert estimate("album", "none.png", *where, "--sort", "noise", "--json") == 1
        lines = capsys.readouterr().out.splitlines()
        assert [strict(line)["height"] for line in lines] == [10, 11]
        assert estimate("album", *where, "-o", "what") == 0
        assert {path.name[0] for path in Path("what").iterdir()} == {"b", "c"}

    @needs_posix
    @pytest.mark.skipif(sys.platform == "darwin", reason="its names are UTF-8")
    def test_any_name_goes_through_a_pipe(
        self, folder: Path, capfdbinary: pytest.CaptureFixture[bytes]
    ) -> None:
        odd = os.fsdecode(b"album/two\nlines \xff.png")
        Path("album/a.png").rename(odd)
        assert estimate("album", "--where", "height < 11", "--sort", "name", "-0") == 0
        assert capfdbinary.readouterr().out == b"album/b.png\0album/two\nlines \xff.png\0"

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["--where", "noise > 3"], "unknown field 'noise'"),
            (["--where", "width > 3 or consistency < 30"], "only --check finds out"),
            (["--print0"], "--where"),
            (["--where", "width > 3", "-0", "--json"], "without --json"),
            (["--sort", "size"], "'size'"),
        ],
    )
    def test_wrong_usage(
        self, arguments: list[str], said: str, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert estimate("album", *arguments) == 2
        assert said in capsys.readouterr().err
