"""Training pictures: what is read from folders, and what a checkpoint remembers of them."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from dmsr_cli.config import DMSRConfig
from dmsr_cli.errors import DataError
from dmsr_cli.training.data import PatchSource, load_patch_source, load_pictures
from dmsr_cli.training.settings import Recipe, TrainingSettings
from pictures import noise

CPU = torch.device("cpu")
SETTINGS = TrainingSettings(iterations=1, batch=8, patch=6)


def source_of(*pictures: np.ndarray, scale: int = 2, rank: int = 0, **changes: int) -> PatchSource:
    return PatchSource(pictures, scale, dataclasses.replace(SETTINGS, **changes), CPU, rank=rank)


class TestLoadPictures:
    def save(self, path: Path, array: np.ndarray) -> None:
        path.parent.mkdir(exist_ok=True)
        PIL.Image.fromarray(array).save(path)

    def refused(self, *folders: Path, smallest: int = 8) -> str:
        with pytest.raises(DataError) as error:
            load_pictures(folders, smallest)
        assert "\n" not in str(error.value)
        return str(error.value)

    def test_exact_pixels_in_the_order_of_names(self, tmp_path: Path) -> None:
        names = ["b/x.png", "a.png", "c.png"]
        pictures = {name: noise(8 + i, 9 + i, 3, seed=i) for i, name in enumerate(names)}
        for name, picture in pictures.items():
            self.save(tmp_path / name, picture)
        (tmp_path / "notes.txt").write_text("not a picture")
        loaded = load_pictures([tmp_path], 8)
        assert [picture.shape for picture in loaded] == [(9, 10, 3), (8, 9, 3), (10, 11, 3)]
        for picture, name in zip(loaded, ["a.png", "b/x.png", "c.png"], strict=True):
            assert picture.dtype == np.uint8
            np.testing.assert_array_equal(picture, pictures[name])

    def test_grey_becomes_rgb(self, tmp_path: Path) -> None:
        grey = noise(8, 8)
        self.save(tmp_path / "grey.png", grey)
        (loaded,) = load_pictures([tmp_path], 8)
        np.testing.assert_array_equal(loaded, np.repeat(grey[..., None], 3, axis=2))

    def test_several_folders(self, tmp_path: Path) -> None:
        for name in ("z", "a"):
            self.save(tmp_path / name / "p.png", noise(8, 8, 3))
        assert len(load_pictures([tmp_path / "z", tmp_path / "a"], 8)) == 2

    def test_no_folder(self) -> None:
        assert "no folder" in self.refused()

    def test_missing_folder(self, tmp_path: Path) -> None:
        assert f"{tmp_path / 'none'} is not a folder" in self.refused(tmp_path / "none")

    def test_file_instead_of_folder(self, tmp_path: Path) -> None:
        self.save(tmp_path / "a.png", noise(8, 8, 3))
        assert "a.png is not a folder" in self.refused(tmp_path / "a.png")

    def test_empty_folder(self, tmp_path: Path) -> None:
        self.save(tmp_path / "full" / "a.png", noise(8, 8, 3))
        (tmp_path / "empty").mkdir()
        text = self.refused(tmp_path / "full", tmp_path / "empty")
        assert f"no pictures in {tmp_path / 'empty'}" in text

    def test_name_with_a_line_break(self, tmp_path: Path) -> None:
        self.refused(tmp_path / "a\nb")
        self.save(tmp_path / "a\nb" / "small.png", noise(4, 4, 3))
        self.refused(tmp_path / "a\nb")

    @pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may list everything")
    def test_folder_without_permission(self, tmp_path: Path) -> None:
        (tmp_path / "locked").mkdir(mode=0)
        assert "locked" in self.refused(tmp_path)

    @pytest.mark.parametrize("content", [b"hello", b"", b"\x89PNG\r\n\x1a\n" + bytes(50)])
    def test_unreadable_picture_is_named(self, tmp_path: Path, content: bytes) -> None:
        self.save(tmp_path / "a.png", noise(8, 8, 3))
        (tmp_path / "broken.png").write_bytes(content)
        text = self.refused(tmp_path)
        assert "broken.png" in text
        assert "take it out" in text

    def test_cut_short(self, tmp_path: Path) -> None:
        path = tmp_path / "cut.png"
        self.save(path, noise(40, 40, 3))
        path.write_bytes(path.read_bytes()[:2000])
        assert "cut.png" in self.refused(tmp_path)

    @pytest.mark.parametrize("shape", [(7, 20), (20, 7)])
    def test_small_picture_is_named(self, tmp_path: Path, shape: tuple[int, int]) -> None:
        self.save(tmp_path / "small.png", noise(*shape, 3))
        text = self.refused(tmp_path)
        assert f"small.png is {shape[1]}x{shape[0]}, but 8 pixels are needed" in text
        assert "lower patch" in text

    def test_exact_size_is_enough(self, tmp_path: Path) -> None:
        self.save(tmp_path / "a.png", noise(8, 8, 3))
        assert len(load_pictures([tmp_path], 8)) == 1


class TestDescription:
    """What a checkpoint remembers of the pictures."""

    def test_says_how_many_and_how_large(self) -> None:
        pictures = [noise(100, 200, 3, seed=1), noise(300, 100, 3, seed=2)]
        assert source_of(*pictures).pictures.startswith("2 pictures of 0.05 megapixels in all (")

    def test_differs_for_other_pictures(self) -> None:
        one, other = noise(90, 90, 3, seed=1), noise(90, 90, 3, seed=2)
        changed = one.copy()
        changed[-1, -1, -1] ^= 1
        lists = [[one, other], [other, one], [changed, other], [one], [one, other, one]]
        assert len({source_of(*pictures).pictures for pictures in lists}) == len(lists)

    def test_does_not_depend_on_the_settings(self) -> None:
        pictures = {
            source_of(noise(90, 90, 3), seed=seed, rank=seed, batch=batch).pictures
            for seed in (0, 1)
            for batch in (1, 2)
        }
        assert len(pictures) == 1


class TestLoadPatchSource:
    def recipe(self, scale: int = 2) -> Recipe:
        return Recipe(DMSRConfig(scale=scale), SETTINGS)

    def test_is_what_the_recipe_says(self, tmp_path: Path) -> None:
        picture = noise(90, 80, 3)
        PIL.Image.fromarray(picture).save(tmp_path / "a.png")
        source = load_patch_source([tmp_path], self.recipe(scale=3), CPU, rank=1)
        expected = source_of(picture, scale=3, rank=1).batch(4)
        assert torch.equal(source.batch(4).hr, expected.hr)
        assert torch.equal(source.batch(4).lr, expected.lr)

    def test_smallest_picture(self, tmp_path: Path) -> None:
        side = source_of(noise(90, 90, 3)).side
        PIL.Image.fromarray(noise(side, side, 3)).save(tmp_path / "a.png")
        assert load_patch_source([tmp_path], self.recipe(), CPU).batch(1).hr.shape[-1] == 12
        PIL.Image.fromarray(noise(side, side - 1, 3)).save(tmp_path / "b.png")
        with pytest.raises(DataError, match=f"b.png is {side - 1}x{side}, but {side} pixels"):
            load_patch_source([tmp_path], self.recipe(), CPU)
