"""The paper's grid: its numbers, seeded noise, and scores that do not depend on company."""

import csv
import dataclasses
import io
import json
import shutil

import numpy as np
import PIL.Image
import pytest
import torch

from dmsr_cli.errors import DataError, SettingsError
from dmsr_cli.evaluation import evaluate, paper_scores
from dmsr_cli.paper_scores import TABLE_1
from dmsr_cli.pipeline import Model
from dmsr_cli.scores import Score, from_records, to_csv, to_json

ONE_CELL = {"kernel_widths": [1.3], "noise_levels": [15.0], "lr_kinds": ["float"]}


@pytest.fixture(scope="module")
def model(tiny_model) -> Model:
    return Model(tiny_model(2), "tiny-x2", torch.device("cpu"), torch.float32)


@pytest.fixture
def folder(tmp_path):
    """Set5, as far as its name goes: two smooth pictures, one of them of odd size."""
    folder = tmp_path / "Set5"
    folder.mkdir()
    for name, height, width in (("one.png", 24, 30), ("two.png", 27, 25)):
        rows, columns = np.mgrid[0:height, 0:width]
        planes = [np.sin(rows / 4), np.cos(columns / 3), np.sin((rows + columns) / 5)]
        pixels = np.rint(np.stack(planes, axis=2) * 100 + 128).astype(np.uint8)
        PIL.Image.fromarray(pixels).save(folder / name)
    return folder


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (("Set5", 4, 1.3, 15), (28.48, 0.8116)),
        (("B100", 2, 2.6, 50), (24.36, 0.5788)),
        (("Set14", 3, 0.2, 0), (30.34, 0.8448)),
        (("set5", 4, 1.3, 15.0), (28.48, 0.8116)),
        (("Set5", 4, 1.4, 15), (None, None)),
        (("Set5", 5, 1.3, 15), (None, None)),
        (("Urban100", 4, 1.3, 15), (None, None)),
    ],
)
def test_paper_scores(cell, expected):
    assert paper_scores(*cell) == expected


@pytest.mark.parametrize("method", ["IKC-vn", "SFM-vn", "DMSR"])
def test_the_paper_table_is_whole_and_plausible(method):
    """Blur, noise and scale cost something in every row: a mistyped number would stand out."""
    for scales in TABLE_1[method].values():
        assert list(scales) == [2, 3, 4]
        for table in scales.values():
            assert len(table) == 7
            for column in (0, 1):
                for level in (15, 50):
                    falling = [table[(width, level)][column] for width in (0.2, 1.3, 2.6)]
                    assert falling == sorted(falling, reverse=True)
                for width in (0.2, 1.3, 2.6):
                    assert table[(width, 15)][column] > table[(width, 50)][column]
                assert table[(0.2, 0)][column] > table[(0.2, 15)][column]
        for cell in scales[2]:
            falling = [scales[scale][cell] for scale in (2, 3, 4)]
            assert falling == sorted(falling, reverse=True)


def test_fields(folder, model):
    shares = []
    scores = evaluate(folder, model, noise_levels=[0.0, 15.0], on_progress=shares.append)
    cells = [(score.kernel_width, score.noise_level, score.lr) for score in scores]
    assert cells == [
        (width, level, kind)
        for level in (0.0, 15.0)
        for width in (0.2, 1.3, 2.6)
        for kind in ("float", "8-bit")
    ]
    for score in scores:
        assert (score.data, score.scale, score.model, score.pictures) == ("Set5", 2, "tiny-x2", 2)
        assert 5 < score.psnr < score.bicubic_psnr < 60  # the tiny network is not trained
        assert -1 <= score.ssim < score.bicubic_ssim <= 1
        expected = (
            paper_scores("Set5", 2, score.kernel_width, score.noise_level)
            if score.lr == "float"
            else (None, None)
        )
        assert (score.paper_psnr, score.paper_ssim) == expected
    by_cell = dict(zip(cells, scores, strict=True))
    assert by_cell[0.2, 0.0, "float"].paper_psnr == 37.96
    assert by_cell[1.3, 0.0, "float"].paper_psnr is None
    clean, noisy = by_cell[0.2, 0.0, "float"], by_cell[0.2, 15.0, "float"]
    assert clean.bicubic_psnr > noisy.bicubic_psnr + 1
    assert noisy.bicubic_psnr != by_cell[0.2, 15.0, "8-bit"].bicubic_psnr
    assert len(shares) == 2 * len(scores)
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_the_seed_decides_the_noise(folder, model):
    first, same, other = (evaluate(folder, model, seed=seed, **ONE_CELL) for seed in (0, 0, 1))
    assert first == same
    assert first[0].bicubic_psnr != other[0].bicubic_psnr
    assert first[0].bicubic_psnr == pytest.approx(other[0].bicubic_psnr, abs=0.5)


def test_pictures_are_scored_independently(folder, model, tmp_path):
    together = evaluate(folder, model, **ONE_CELL)[0]
    alone = []
    for name in ("one.png", "two.png"):
        other = tmp_path / name / "Set5"
        other.mkdir(parents=True)
        shutil.copy(folder / name, other)
        alone += evaluate(other, model, **ONE_CELL)
    for name in ("psnr", "ssim", "bicubic_psnr", "bicubic_ssim"):
        mean = sum(getattr(score, name) for score in alone) / 2
        assert getattr(together, name) == pytest.approx(mean, abs=1e-6)


def test_csv_and_json(folder, model):
    scores = evaluate(folder, model, kernel_widths=[0.2, 1.3], noise_levels=[0.0])
    assert {score.paper_psnr for score in scores} == {37.96, None}
    assert [Score(**row) for row in json.loads(to_json(scores))] == scores
    rows = list(csv.DictReader(io.StringIO(to_csv(scores))))
    for row, score in zip(rows, scores, strict=True):
        expected = {
            key: "" if value is None else str(value)
            for key, value in dataclasses.asdict(score).items()
        }
        assert row == expected
        assert float(row["psnr"]) == score.psnr


def test_scores_come_back_from_their_file(folder, model):
    scores = evaluate(folder, model, **ONE_CELL)
    assert list(from_records(json.loads(to_json(scores)), "scores.json")) == scores


@pytest.mark.parametrize("records", [{}, [1], [{"psnr": "high"}], [{"colour": 1}], [{}]])
def test_what_are_no_scores(records):
    with pytest.raises(SettingsError, match=r"^scores\.json"):
        from_records(records, "scores.json")


def test_folders_that_cannot_be_scored(folder, model, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    small = folder / "small.png"
    PIL.Image.new("RGB", (40, 13)).save(small)
    for path, words in ((tmp_path / "absent", "absent"), (empty, "empty"), (folder, "small.png")):
        with pytest.raises(DataError, match=words) as caught:
            evaluate(path, model)
        assert "\n" not in str(caught.value)
    small.unlink()
    PIL.Image.new("RGB", (1, 1)).save(folder / "dot.png")
    with pytest.raises(DataError, match=r"dot\.png"):
        evaluate(folder, model)
