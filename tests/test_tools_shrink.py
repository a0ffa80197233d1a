"""Pictures that are encoded anew to fit a total size."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from click.testing import CliRunner, Result
from PIL import features

from dmsr_cli.images import read_image
from dmsr_cli.metrics import psnr
from pictures import noise, save, smooth

TOOL = Path(__file__).parent.parent / "tools" / "shrink_pictures.py"
COUNT = 15  # more than the sample
SUFFIXES = {"jpeg": ".jpg", "webp": ".webp", "avif": ".avif"}

sys.dont_write_bytecode, _previous = True, sys.dont_write_bytecode
_spec = importlib.util.spec_from_file_location("shrink_pictures", TOOL)
assert _spec is not None
assert _spec.loader is not None
tool = importlib.util.module_from_spec(_spec)
sys.modules["shrink_pictures"] = tool  # dataclasses look their module up
_spec.loader.exec_module(tool)
sys.dont_write_bytecode = _previous
assert tool.SAMPLE < COUNT

formats = pytest.mark.parametrize(
    "file_format",
    [
        "jpeg",
        "webp",
        pytest.param(
            "avif",
            marks=pytest.mark.skipif(not features.check("avif"), reason="a Pillow without AVIF"),
        ),
    ],
)


def textured(index: int) -> np.ndarray:
    """A gradient with some noise: something between a flat picture and none that compresses."""
    colours = smooth(48, 40 + 2 * index) * 160 + noise(48, 40 + 2 * index, 3, seed=index) / 4
    return np.rint(colours).astype(np.uint8)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    for index in range(COUNT):
        name = f"deep/{index}.png" if index % 3 == 0 else f"{index}.png"
        save(folder / name, textured(index))
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(tool.main, [*map(str, arguments)])


def refused(*arguments: object) -> str:
    done = run(*arguments)
    assert done.exit_code == 1
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert lines[-1].startswith("Error: ")
    assert all(line.startswith("quality ") for line in lines[:-1])
    return lines[-1].removeprefix("Error: ")


def files_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@formats
def test_the_limit_is_kept_and_used(photos, tmp_path, file_format):
    limit = size_of(photos) / 4
    out = tmp_path / "out"
    done = run(photos, "-o", out, "--size", limit / 2**20, "--format", file_format)
    assert done.exit_code == 0, done.output
    assert size_of(out) <= limit
    found = re.fullmatch(
        r"15 pictures, (\S+) MiB, quality (\d+), luma PSNR of 12 of them (\S+) dB\n", done.stdout
    )
    assert found is not None
    assert found[1] == f"{size_of(out) / 2**20:.2f}"
    quality = int(found[2])
    originals = sorted(photos.rglob("*.png"))
    file_format = tool.FORMATS[file_format]
    next_better = [tool._encoded(tool._read(path), file_format, quality + 1) for path in originals]
    assert sum(map(len, next_better)) > limit


def mislead(monkeypatch, factor: float) -> None:
    """Let the sample expect that much more room than there is, until all were encoded once."""
    best = tool._best_copy

    def misled(pictures, sample, share, *others):
        return best(pictures, sample, share * factor, *others)

    monkeypatch.setattr(tool, "_best_copy", misled)


@pytest.mark.parametrize(("spare", "factor"), [(0, 1), (-1, 1), (-1, 1.0001)])
def test_the_limit_is_kept_to_the_byte(photos, tmp_path, monkeypatch, spare, factor):
    monkeypatch.setattr(tool, "SAMPLE", COUNT)  # what it predicts is then exact
    mislead(monkeypatch, factor)
    jpeg = tool.FORMATS["jpeg"]
    originals = [tool._read(path) for path in photos.rglob("*.png")]
    limit = spare + sum(len(tool._encoded(picture, jpeg, 60)) for picture in originals)
    done = run(photos, "-o", tmp_path / "out", "--size", limit / 2**20, "--format", "jpeg")
    assert f" quality {60 + spare}, " in done.stdout
    assert size_of(tmp_path / "out") <= limit
    assert len(done.stderr.splitlines()) == (1 if factor == 1 else 2)


@formats
def test_the_copies_are_the_same_pictures(photos, tmp_path, file_format):
    out = tmp_path / "out"
    done = run(photos, "-o", out, "--size", size_of(photos) / 4 / 2**20, "--format", file_format)
    assert done.exit_code == 0
    names = [name.replace(".png", SUFFIXES[file_format]) for name in files_below(photos)]
    assert files_below(out) == sorted(names)
    values = []
    for path in photos.rglob("*.png"):
        copy = out / path.relative_to(photos).with_suffix(SUFFIXES[file_format])
        values.append(psnr(tensor_of(copy), tensor_of(path)))
    assert min(values) > 25
    shown = float(done.stdout.split()[-2])
    assert min(values) - 0.01 < shown < max(values) + 0.01


def tensor_of(path: Path):
    import torch

    return torch.from_numpy(read_image(path).pixels).permute(2, 0, 1).unsqueeze(0)


def test_jpeg_keeps_the_resolution_of_colour(photos, tmp_path):
    out = tmp_path / "out"
    size = size_of(photos) / 4 / 2**20
    assert run(photos, "-o", out, "--size", size, "--format", "jpeg").exit_code == 0
    with PIL.Image.open(out / "1.jpg") as picture:
        assert [layer[1:3] for layer in picture.layer] == [(1, 1)] * 3


def test_the_seed_chooses_the_sample_and_nothing_else_varies(photos, tmp_path, monkeypatch):
    chosen = []
    sample = tool.Sample

    def remember(pictures, file_format):
        chosen.append([picture.path.name for picture in pictures])
        return sample(pictures, file_format)

    monkeypatch.setattr(tool, "Sample", remember)
    for number, seed in enumerate((0, 0, 1)):
        options = ("--size", size_of(photos) / 4 / 2**20, "--format", "jpeg", "--seed", seed)
        assert run(photos, "-o", tmp_path / str(number), *options).exit_code == 0
    assert chosen[0] == chosen[1] != chosen[2]
    assert (tmp_path / "0" / "1.jpg").read_bytes() == (tmp_path / "1" / "1.jpg").read_bytes()


@pytest.mark.parametrize("factor", [0.2, 5])
def test_a_sample_that_is_nothing_like_the_rest(photos, tmp_path, monkeypatch, factor):
    """What the sample predicts is corrected by what all pictures have."""
    limit = size_of(photos) / 4
    options = ("--size", limit / 2**20, "--format", "jpeg")
    right = run(photos, "-o", tmp_path / "right", *options)
    mislead(monkeypatch, factor)
    done = run(photos, "-o", tmp_path / "out", *options)
    assert len(done.stderr.splitlines()) > len(right.stderr.splitlines())
    assert done.stdout == right.stdout
    assert size_of(tmp_path / "out") <= limit


def test_names_stay_unique(tmp_path):
    sources = [tmp_path / "a" / "x", tmp_path / "b" / "x", tmp_path / "b" / "single.png"]
    for folder in sources[:2]:
        folder.mkdir(parents=True)
        for name in ("p.png", "p.bmp", "q.v1.png"):
            save(folder / name, textured(3))
    save(sources[2], textured(4))
    save(sources[0] / "P.tif", textured(5))
    out = tmp_path / "out"
    assert run(*sources, "-o", out, "--size", 0.02, "--format", "jpeg").exit_code == 0
    names = [name for name in files_below(out) if name != "x"]
    assert len(names) == 8
    assert len({name.casefold() for name in names}) == 8
    assert {"x/P.jpg", "x/q.v1.jpg", "x/q.v1-2.jpg", "single.jpg"} < set(names)


def test_an_empty_folder_is_taken(photos, tmp_path):
    (tmp_path / "out").mkdir()
    size = size_of(photos) / 4 / 2**20
    assert run(photos, "-o", tmp_path / "out", "--size", size, "--format", "jpeg").exit_code == 0
    assert len(list((tmp_path / "out").rglob("*.jpg"))) == COUNT
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "photos"]


def bad_inputs(photos: Path) -> dict[str, tuple[list[object], str]]:
    """Arguments without -o, and a part of the message."""
    root = photos.parent
    (root / "empty").mkdir()
    (root / "text.png").write_text("no picture")
    (root / "damaged").mkdir()
    data = (photos / "1.png").read_bytes()
    (root / "damaged" / "cut.png").write_bytes(data[: len(data) // 2])
    small = size_of(photos) / 4 / 2**20
    return {
        "missing": ([root / "missing", "--size", small], "there is no "),
        "empty": ([root / "empty", "--size", small], "no pictures in "),
        "no picture": ([root / "text.png", "--size", 1e-6], "text.png is not a picture"),
        "damaged": ([root / "damaged", photos, "--size", small], "cut.png: it is damaged"),
        "twice": ([photos, photos / "deep" / ".." / "1.png", "--size", small], "is given twice"),
        "fits": ([photos, "--size", size_of(photos) / 2**20], "fit as they are"),
        "too small": ([photos, "--size", 1e-4], "at the lowest quality they still have "),
    }


@pytest.mark.parametrize(
    "kind", ["missing", "empty", "no picture", "damaged", "twice", "fits", "too small"]
)
def test_bad_input_is_one_line_and_leaves_nothing(photos, tmp_path, kind):
    arguments, expected = bad_inputs(photos)[kind]
    before = files_below(tmp_path)
    assert expected in refused(*arguments, "-o", tmp_path / "out", "--format", "jpeg")
    assert files_below(tmp_path) == before


def test_a_damaged_picture_that_is_not_in_the_sample(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "SAMPLE", 1)
    size = size_of(photos) / 4 / 2**20
    for path in photos.rglob("*.png"):
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        message = refused(photos, "-o", tmp_path / "out", "--size", size, "--format", "jpeg")
        assert f"{path.name}: it is damaged" in message
        path.write_bytes(content)
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_a_full_folder_stays_as_it_is(photos, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("old")
    message = refused(photos, "-o", tmp_path / "out", "--size", 0.01, "--format", "jpeg")
    assert message.endswith("out is not empty: give a new or an empty folder")
    message = refused(photos, "-o", tmp_path / "out" / "mine", "--size", 0.01, "--format", "jpeg")
    assert "cannot write" in message
    assert files_below(tmp_path / "out") == ["mine"]
    assert (tmp_path / "out" / "mine").read_text() == "old"


def test_a_picture_that_the_format_cannot_hold(tmp_path):
    save(tmp_path / "long.png", noise(1, 16_384, 3))
    message = refused(tmp_path, "-o", tmp_path / "out", "--size", 0.01, "--format", "webp")
    assert "cannot encode " in message
    assert "long.png as WEBP: " in message
    assert files_below(tmp_path) == ["long.png"]


def test_a_pillow_without_the_format(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "get_supported", lambda: ["jpg", "webp"])
    message = refused(photos, "-o", tmp_path / "out", "--size", 0.01)
    assert message == "this Pillow cannot write AVIF: use another --format, or a newer Pillow"


@pytest.mark.parametrize("step", ["write_bytes", "rename"])
def test_a_full_disk_leaves_nothing(photos, tmp_path, monkeypatch, step):
    def fail(path, *arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, step, fail)
    size = size_of(photos) / 4 / 2**20
    message = refused(photos, "-o", tmp_path / "out", "--size", size, "--format", "jpeg")
    assert message == f"cannot write {tmp_path / 'out'}: No space left on device"
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_an_interruption_leaves_nothing(photos, tmp_path, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(tool, "_copied", interrupt)
    done = run(photos, "-o", tmp_path / "out", "--size", 0.01, "--format", "jpeg")
    assert done.exit_code == 1
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_as_a_script(photos, tmp_path):
    done = subprocess.run(
        [
            *(sys.executable, str(TOOL), str(photos), "-o", str(tmp_path / "out")),
            *("--size", str(size_of(photos) / 4 / 2**20), "--format", "jpeg"),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("15 pictures, ")
