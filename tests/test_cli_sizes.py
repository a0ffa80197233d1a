"""`dmsr upscale` to any size, with the bundled models on pictures of a few pixels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from command_line import dmsr
from dmsr_cli import pipeline, read_image
from dmsr_cli.cli.main import main
from dmsr_cli.images import write_image
from dmsr_cli.resizing import resize_image
from dmsr_cli.weights import save_weights
from tiny_weights import tiny_model


@pytest.fixture
def photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """photo.png, 12 x 9, in the current folder."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    PIL.Image.fromarray(pixels).save(path)
    return path


def size_of(path: Path | str) -> tuple[int, int]:
    with PIL.Image.open(path) as picture:
        return picture.size


def bytes_of(path: Path | str) -> np.ndarray:
    return np.asarray(PIL.Image.open(path))


def test_a_broken_scale_is_the_next_models_result_shrunk(photo: Path) -> None:
    done = dmsr("upscale", photo, "-s", "x3.5", "--compare")
    assert done.returncode == 0, done.stderr
    assert "photo_x3.5.png (42x32, dmsr-lite-x4 resized, blur" in done.stderr
    assert size_of("photo_x3.5_compare.png") == (2 * 42 + 4, 32)
    restored = pipeline.upscale(read_image(photo), pipeline.load_model("dmsr-lite-x4"))
    write_image(resize_image(restored, 32, 42), "expected.png")
    assert abs(bytes_of("photo_x3.5.png").astype(int) - bytes_of("expected.png")).max() <= 1


def test_a_whole_scale_is_not_resized(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["upscale", str(photo), "-s", "3.0", "--passes", "2"]) == 0
    said = capsys.readouterr().err
    assert "dmsr-lite-x3 on " in said
    assert "photo_x3.png (36x27, blur" in said
    assert "pass" not in said
    write_image(
        pipeline.upscale(read_image(photo), pipeline.load_model("dmsr-lite-x3")), "expected.png"
    )
    assert (bytes_of("photo_x3.png") == bytes_of("expected.png")).all()


def test_sizes_of_a_batch(
    photo: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each picture gets the model that it needs, each model is loaded once, a bad one is named."""
    load_model, loaded = pipeline.load_model, []

    def counted(*arguments: object, scale: int, **options: object) -> pipeline.Model:
        loaded.append(scale)
        return load_model(*arguments, scale=scale, **options)

    monkeypatch.setattr(pipeline, "load_model", counted)
    sides = {"a": (12, 9), "b": (8, 8), "c": (5, 5), "d": (24, 30), "e": (40, 1), "f": (10, 13)}
    for name, side in sides.items():
        PIL.Image.new("RGBA", side, (90, 120, 60, 100)).save(f"{name}.png")
    names = [f"{name}.png" for name in sides]
    assert main(["upscale", *names, "--size", "24x", "--json"]) == 1
    output = capsys.readouterr()
    records = {
        Path(record["input"]).stem: record for record in map(json.loads, output.out.splitlines())
    }
    shown = {
        name: (record["scale"], record["width"], record["height"], record["model"])
        for name, record in records.items()
    }
    assert shown == {
        "a": (2, 24, 18, "dmsr-lite-x2"),
        "b": (3, 24, 24, "dmsr-lite-x3"),
        "c": (None, None, None, None),
        "d": (1, 24, 30, "dmsr-lite-x2"),
        "e": (1, 24, 1, "dmsr-lite-x2"),
        "f": (2.4, 24, 31, "dmsr-lite-x3"),
    }
    assert type(records["d"]["scale"]) is int
    assert records["c"]["error"].startswith("c.png: x4.8 is more than one pass gives")
    assert "5 done, 0 skipped, 1 failed" in output.err
    assert loaded == [2, 3]
    for name in "abdef":
        result = PIL.Image.open(f"{name}_w24.png")
        assert result.size == (24, shown[name][2])
        assert result.getpixel((0, 0))[3] == 100


def test_both_sides_stretch(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["upscale", str(photo), "--size", "20x36"]) == 0
    assert size_of("photo_20x36.png") == (20, 36)
    assert "dmsr-lite-x4 resized" in capsys.readouterr().err


def test_two_passes(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["upscale", str(photo), "-s", "5", "--passes", "2", "--save-degradation"]
    assert main([*arguments, "--noise-level", "3"]) == 0
    said = capsys.readouterr().err
    assert "dmsr-lite-x3+dmsr-lite-x2 on " in said
    assert "adds no information" in said
    assert "(60x45, dmsr-lite-x3+dmsr-lite-x2 resized, " in said
    image = read_image(photo)
    first, second = (pipeline.load_model(f"dmsr-lite-x{scale}") for scale in (3, 2))
    degradation = pipeline.estimate(image, first).with_noise_level(3)
    np.testing.assert_array_equal(np.load("photo_x5_noise.npy"), degradation.noise_map)
    result = pipeline.upscale(pipeline.upscale(image, first, degradation), second)
    write_image(resize_image(result, 45, 60), "expected.png")
    assert abs(bytes_of("photo_x5.png").astype(int) - bytes_of("expected.png")).max() <= 1


def test_two_passes_to_a_size(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["upscale", str(photo), "--size", "x72", "--passes", "2", "--json"]) == 0
    output = capsys.readouterr()
    record = json.loads(output.out)
    assert (record["scale"], record["width"], record["height"]) == (8, 96, 72)
    assert record["model"] == "dmsr-lite-x4+dmsr-lite-x2"
    assert "adds no information" in output.err
    assert size_of("photo_h72.png") == (96, 72)


def test_progress_of_two_passes_never_goes_back(
    photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dmsr_cli.cli.batch.progress import PatientProgress

    shares: list[float] = []
    monkeypatch.setattr(
        PatientProgress, "update", lambda self, done, text=None: shares.append(done)
    )
    PIL.Image.open(photo).resize((48, 36)).save(photo)
    arguments = ["upscale", str(photo), "-s", "6", "--passes", "2", "--tile", "32"]
    assert main([*arguments, "--overlap", "4"]) == 0
    assert shares == sorted(shares)
    assert 0 < shares[0] < 0.1  # the second pass sees nine times as many pixels
    assert shares[-1] == pytest.approx(1)


def test_one_model_serves_smaller_scales_only(
    photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_weights(tiny_model(scale=3), Path("mine.safetensors"))
    model = ["--model", "mine.safetensors"]
    assert main(["upscale", str(photo), *model, "-s", "2.5"]) == 0
    assert main(["upscale", str(photo), *model, "-s", "2"]) == 0
    assert "mine.safetensors resized" in capsys.readouterr().err
    assert size_of("photo_x2.png") == (24, 18)
    assert main(["upscale", str(photo), *model]) == 0
    assert size_of("photo_x3.png") == (36, 27)
    assert "resized" not in capsys.readouterr().err
    assert main(["upscale", str(photo), *model, "-s", "3.5"]) == 2
    assert "mine.safetensors is a x3 model, and x3.5 needs a x4" in capsys.readouterr().err
    assert main(["upscale", str(photo), *model, "--size", "48x36"]) == 1
    assert "photo.png: mine.safetensors is a x3 model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["-s", "1"], 2, ["'1'", "above 1"]),
        (["-s", "0"], 2, ["'0'", "above 1"]),
        (["-s", "-3"], 2, ["'-3'", "above 1"]),
        (["-s", "nan"], 2, ["'nan'", "above 1"]),
        (["-s", "x"], 2, ["'x'", "above 1"]),
        (["-s", "4.5"], 2, ["x4.5", "--passes 2"]),
        (["-s", "17", "--passes", "2"], 2, ["'17'", "at most 16"]),
        (["-s", "2", "--passes", "3"], 2, ["--passes"]),
        (["--size", "0x5"], 2, ["'0x5'", "800x600"]),
        (["--size", "axb"], 2, ["'axb'", "800x600"]),
        (["--size", "99999x99999"], 2, ["'99999x99999'", "pixels"]),
        (["--size", "48x", "-s", "4"], 2, ["exclude"]),
        (["--size", "48x", "--model", "dmsr-huge"], 2, ["dmsr-huge", "known are"]),
        (["--size", "48x", "--device", "toaster"], 2, ["toaster"]),
        (["--size", "49x"], 1, ["photo.png", "x4.111", "--passes 2"]),
        (["--size", "2000x", "--passes", "2"], 1, ["photo.png", "at most x16"]),
    ],
)
def test_impossible_sizes_get_one_line(
    arguments: list[str],
    status: int,
    words: list[str],
    photo: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["upscale", str(photo), *arguments]) == status
    output = capsys.readouterr()
    errors = [line for line in output.err.splitlines() if "rror" in line]
    assert len(errors) == 1, output.err
    for word in words:
        assert word in errors[0]
    assert output.out == ""
    assert [path.name for path in photo.parent.iterdir()] == ["photo.png"]


@pytest.mark.parametrize("command", ["estimate", "evaluate", "train"])
def test_other_commands_know_whole_scales_only(
    command: str, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, str(photo), "-s", "3.5"]) == 2
    assert "3.5" in capsys.readouterr().err
