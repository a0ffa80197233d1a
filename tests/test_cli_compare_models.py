"""`dmsr upscale --compare-models`: a contact sheet of what several models make of a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from dmsr_cli import pipeline
from dmsr_cli.cli.batch import contact_sheet as module
from dmsr_cli.cli.batch.jobs import Job
from dmsr_cli.cli.main import main
from dmsr_cli.errors import DeviceError
from dmsr_cli.images import read_image
from dmsr_cli.visual.contact_sheet import LEAST_CELL_WIDTH
from dmsr_cli.weights import save_weights
from pictures import noise, save
from tiny_weights import tiny_model

MODELS = "a.safetensors,b.safetensors"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """photo.png of 40 x 30, and three models, of which c.safetensors is for x4."""
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "photo.png", noise(30, 40, 3))
    for name, scale, seed in (("a", 2, 0), ("b", 2, 1), ("c", 4, 2)):
        save_weights(tiny_model(seed, scale), tmp_path / f"{name}.safetensors")
    return tmp_path


@pytest.fixture
def compare(capsys: pytest.CaptureFixture[str]):
    """`compare(...)` gives the exit status, the records and what was said."""

    def run(*arguments: str, models: str = MODELS) -> tuple[int, list[dict[str, Any]], str]:
        capsys.readouterr()
        status = main(["upscale", *arguments, "--compare-models", models, "--json"])
        output = capsys.readouterr()
        return status, [json.loads(line) for line in output.out.splitlines()], output.err

    return run


def test_a_sheet_and_nothing_else(folder: Path, compare) -> None:
    before = {path.name for path in folder.iterdir()}
    status, [record], _ = compare("photo.png")
    assert status == 0
    assert {path.name for path in folder.iterdir()} - before == {"photo_x2_models.png"}
    assert list(record) == [
        *("input", "output", "status", "error", "scale", "width", "height", "crop", "models"),
        *("warnings", "input_pixels", "started", "finished"),
    ]
    assert (record["status"], record["scale"]) == ("ok", 2)
    assert record["crop"] == [0, 0, 40, 30]
    assert PIL.Image.open("photo_x2_models.png").size == (record["width"], record["height"])
    assert [told["model"] for told in record["models"]] == ["a.safetensors", "b.safetensors"]
    for told in record["models"]:
        assert told["seconds"] > 0
        assert told["kernel_width"] > 0
        assert told["noise_level"] >= 0
        assert told["error"] is None


def test_the_cells_show_what_the_models_make(folder: Path, compare) -> None:
    """With what steers them; pixels of small results are enlarged."""
    compare("photo.png", "--denoise", "0.5")
    sheet = np.asarray(PIL.Image.open("photo_x2_models.png"))
    image = read_image("photo.png")
    for name in ("a", "b"):
        model = pipeline.load_model(f"{name}.safetensors")
        steered = pipeline.estimate(image, model).with_denoise(0.5)
        result = pipeline.upscale(image, model, steered, dtype=np.uint8).pixels
        assert _contains(sheet, result.repeat(3, 0).repeat(3, 1))


def _contains(sheet: np.ndarray, picture: np.ndarray) -> bool:
    height, width = picture.shape[:2]
    starts = (sheet[: 1 - height, : 1 - width] == picture[0, 0]).all(axis=2)
    return any(
        np.array_equal(sheet[top : top + height, left : left + width], picture)
        for top, left in np.argwhere(starts)
    )


def test_a_part_of_the_picture(folder: Path, compare) -> None:
    assert compare("photo.png", "--compare-crop", "8,4,20,10")[1][0]["crop"] == [8, 4, 20, 10]
    sheet = np.asarray(PIL.Image.open("photo_x2_models.png"))
    image = read_image("photo.png")
    result = pipeline.upscale(image, pipeline.load_model("a.safetensors"), dtype=np.uint8).pixels
    assert _contains(sheet, result[8:28, 16:56].repeat(6, 0).repeat(6, 1))


def test_a_part_beyond_the_picture(folder: Path, compare) -> None:
    status, [record], said = compare("photo.png", "--compare-crop", "30,20,11,10")
    assert (status, record["output"]) == (1, None)
    assert "goes beyond the picture, which has 40x30 pixels" in said
    assert not Path("photo_x2_models.png").exists()


def test_of_a_large_result_the_telling_part_is_shown(
    folder: Path, compare, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LARGEST_SHOWN", 79)
    monkeypatch.setattr(module, "CROP_SIDE", 31)
    pixels = np.full((30, 40, 3), 90, np.uint8)
    pixels[12:20, 18:28] = noise(8, 10, 3)
    save(folder / "photo.png", pixels)
    left, top, width, height = compare("photo.png")[1][0]["crop"]
    assert (width, height) == (15, 15)
    assert left <= 20 <= 26 <= left + width
    assert top <= 14 <= 18 <= top + height


def test_a_model_that_cannot_be_read(folder: Path, compare) -> None:
    """The others are shown, and its cell says why it is not."""
    Path("bad.safetensors").write_bytes(b"nothing of this kind")
    for models in (f"bad.safetensors,{MODELS}", f"{MODELS},bad.safetensors"):
        status, [record], said = compare("photo.png", "--overwrite", models=models)
        assert (status, record["status"]) == (1, "failed")
        assert "photo_x2_models.png lacks a model: bad.safetensors" in said
        assert record["output"] == "photo_x2_models.png"
        errors = [told["error"] for told in record["models"]]
        assert sum(error is not None for error in errors) == 1
        assert Path("photo_x2_models.png").exists()


def test_a_model_that_fails(folder: Path, compare, monkeypatch: pytest.MonkeyPatch) -> None:
    estimate = pipeline.estimate

    def fail(image: Any, model: Any, **options: Any) -> Any:
        if model.name == "b.safetensors":
            raise DeviceError("the memory does not suffice")
        return estimate(image, model, **options)

    monkeypatch.setattr(pipeline, "estimate", fail)
    status, [record], said = compare("photo.png")
    assert status == 1
    assert record["models"][0]["error"] is None
    assert record["models"][1]["error"] == "the memory does not suffice"
    assert "lacks a model: b.safetensors: the memory does not suffice" in said


def test_no_model_works(folder: Path, compare) -> None:
    status, [record], said = compare("photo.png", models="missing.safetensors")
    assert (status, record["output"]) == (1, None)
    assert "no model made a result: missing.safetensors" in said
    assert not Path("photo_x2_models.png").exists()


@pytest.mark.parametrize(
    ("arguments", "models", "said"),
    [
        ([], "a.safetensors,c.safetensors", "c.safetensors is for x4 and cannot be compared at x2"),
        (["-s", "3"], MODELS, "a.safetensors is for x2 and cannot be compared at x3"),
        (["-s", "3.5"], MODELS, "takes -s 2, 3 or 4, not 3.5"),
        ([], "dmsr-lite,no-such", "unknown model 'no-such'"),
        ([], "a.safetensors,", "is not a list of names"),
        (["--model", "a.safetensors"], MODELS, "--model exclude each other"),
        (["--size", "100x"], MODELS, "--size exclude each other"),
        (["--compare"], MODELS, "--compare exclude each other"),
        (["--compare-mode", "zoom"], MODELS, "--compare exclude each other"),
        (["--skip-existing"], MODELS, "--skip-existing exclude each other"),
        (["--watch"], MODELS, "--watch exclude each other"),
        (["--dry-run"], MODELS, "--dry-run exclude each other"),
        (["--compare-page", "p.html"], MODELS, "--compare-page exclude each other"),
        (["-o", "-"], MODELS, "use -o FILE"),
        (["--compare-crop", "1,2,0,4"], MODELS, "is not a part of a picture"),
        (["--compare-crop", "a"], MODELS, "is not a part of a picture"),
    ],
)
def test_what_does_not_go_together(
    folder: Path, compare, arguments: list[str], models: str, said: str
) -> None:
    before = {path.name for path in folder.iterdir()}
    status, records, text = compare("photo.png", *arguments, models=models)
    assert (status, records) == (2, [])
    assert said in text
    assert {path.name for path in folder.iterdir()} == before


def test_a_crop_without_models(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["upscale", "photo.png", "--compare-crop", "0,0,4,4"]) == 2
    assert "--compare-crop is for --compare-models" in capsys.readouterr().err


def test_the_scale_is_that_of_the_file_also_for_families(folder: Path, compare) -> None:
    record = compare("photo.png", models="dmsr-lite,a.safetensors")[1][0]
    assert record["scale"] == 2
    assert [told["model"] for told in record["models"]] == ["dmsr-lite-x2", "a.safetensors"]


def test_files_of_one_name_are_told_apart(folder: Path, compare) -> None:
    for name in ("one", "two"):
        Path(name).mkdir()
        Path(name, "last.safetensors").write_bytes(Path("a.safetensors").read_bytes())
    models = [str(Path(name, "last.safetensors")) for name in ("one", "two")]
    record = compare("photo.png", models=",".join(models))[1][0]
    assert [told["model"] for told in record["models"]] == models


def test_nothing_is_replaced(folder: Path, compare) -> None:
    Path("photo_x2_models.png").write_bytes(b"precious")
    status, [record], said = compare("photo.png")
    assert (status, record["models"]) == (1, [])
    assert "exists already" in said
    assert Path("photo_x2_models.png").read_bytes() == b"precious"
    assert compare("photo.png", "--overwrite")[0] == 0
    assert compare("photo.png", "-o", "sheet.jpg")[0] == 0
    assert PIL.Image.open("sheet.jpg").format == "JPEG"
    assert compare("photo.png", "-o", "sheet.txt")[0] == 1


def test_a_folder_with_a_bad_file_and_an_animation(folder: Path, compare) -> None:
    album = folder / "album"
    album.mkdir()
    save(album / "a.png", noise(9, 12, 3))
    save(album / "grey.png", noise(9, 12))
    (album / "broken.png").write_bytes(b"no picture")
    frames = [PIL.Image.fromarray(noise(9, 12, 3, seed=seed)) for seed in range(2)]
    frames[0].save(album / "a.gif", save_all=True, append_images=frames[1:])
    status, records, said = compare("album")
    assert status == 1
    assert "3 done, 0 skipped, 1 failed" in said
    made = {path.name for path in Path("album_x2_models").iterdir()} - {".dmsr-results.jsonl"}
    assert made == {Path(record["output"]).name for record in records if record["output"]}
    assert len(made) == 3
    assert all(name.endswith(".png") for name in made)


def test_sheets_are_no_inputs_of_the_next_run(folder: Path, compare) -> None:
    save(folder / "other.png", noise(9, 12, 3))
    assert compare("photo.png", "other.png")[0] == 0
    status, records, said = compare(
        *sorted(path.name for path in folder.glob("*.png")), "--overwrite"
    )
    assert (status, len(records)) == (0, 2)
    assert "2 results of earlier runs left out" in said


def test_the_sheet_of_a_clip_is_a_picture() -> None:
    job = Job(Path("a.mp4"), Path("a_x4_models.mp4"))
    assert module._of_picture(job).target == Path("a_x4_models.png")


@pytest.mark.parametrize("size", [(1, 1), (1, 90), (90, 1)])
def test_odd_sizes(folder: Path, compare, size: tuple[int, int]) -> None:
    save(folder / "photo.png", noise(*size, 3))
    status, [record], _ = compare("photo.png")
    assert status == 0
    assert record["width"] >= LEAST_CELL_WIDTH


def test_transparency_and_depth(folder: Path, compare) -> None:
    save(folder / "photo.png", noise(20, 30, 4))
    assert compare("photo.png")[0] == 0
    assert PIL.Image.open("photo_x2_models.png").mode == "RGB"
    save(folder / "deep.png", noise(20, 30).astype(np.uint16) * 257)
    assert compare("deep.png")[0] == 0
    assert PIL.Image.open("deep_x2_models.png").mode.startswith("I;16")
