"""Blur kernels from files: arrays, pictures, text; whatever is wrong is one line."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from dmsr_cli.degradation import gaussian_kernel
from dmsr_cli.degradation_file import read_kernel
from dmsr_cli.errors import DmsrError, SettingsError
from dmsr_cli.images import write_image
from dmsr_cli.visual import kernel_picture
from pictures import needs_posix, save

KERNEL = gaussian_kernel(1.7)[0].numpy()
KERNEL.flags.writeable = False


def as_text(values: np.ndarray, separator: str = " ") -> str:
    return "\n".join(separator.join(f"{tap:.9g}" for tap in row) for row in values) + "\n"


def saved_array(path: Path, values: object, **options: object) -> Path:
    with path.open("wb") as file:
        np.save(file, values, **options)
    return path


def error_of(path: Path) -> str:
    """The message for a file that is no kernel: one line that has its name in it."""
    with pytest.raises(SettingsError) as caught:
        read_kernel(path)
    text = str(caught.value)
    assert path.name in text
    assert "\n" not in text
    assert len(text) < 400
    return text


def lopsided() -> np.ndarray:
    """No symmetry: rows and columns, up and down cannot be mistaken."""
    return np.arange(225, dtype=np.float64).reshape(15, 15)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble, np.int64])
def test_array(tmp_path, dtype):
    path = saved_array(tmp_path / "k.npy", lopsided().astype(dtype))
    kernel = read_kernel(path)
    assert kernel.dtype == np.float32
    np.testing.assert_allclose(kernel, lopsided() / lopsided().sum(), rtol=1e-6)


def test_our_own_array_comes_back_exactly(tmp_path):
    assert np.array_equal(read_kernel(saved_array(tmp_path / "k.npy", KERNEL)), KERNEL)


@pytest.mark.parametrize("values", [lopsided() * 5e305, lopsided() * 1e-320])
def test_sums_beyond_a_float(tmp_path, values):
    kernel = read_kernel(saved_array(tmp_path / "k.npy", values))
    np.testing.assert_allclose(kernel, lopsided() / lopsided().sum(), rtol=1e-2)


@pytest.mark.parametrize("separator", [" ", ",", " , ", "\t", ", "])
def test_text(tmp_path, separator):
    path = tmp_path / "k.txt"
    text = as_text(lopsided(), separator)
    path.write_text(f"\ufeff# measured\n\n{text}# the end\n".replace("\n0", "\n  0"), "utf-8")
    np.testing.assert_allclose(read_kernel(path), lopsided() / lopsided().sum(), rtol=1e-6)


def test_picture_with_a_pixel_for_a_tap(tmp_path):
    grey = np.arange(225, dtype=np.uint8).reshape(15, 15)
    kernel = read_kernel(save(tmp_path / "k.png", grey))
    np.testing.assert_allclose(kernel, lopsided() / lopsided().sum(), rtol=1e-5)


def test_picture_of_16_bit(tmp_path):
    fine = (np.arange(225) * 256 + 3).astype(np.uint16).reshape(15, 15)
    kernel = read_kernel(save(tmp_path / "k.png", fine))
    np.testing.assert_allclose(kernel, fine / fine.sum(), rtol=1e-5)


def test_our_own_picture_comes_back_but_for_8_bits(tmp_path):
    path = tmp_path / "a_kernel.png"
    write_image(kernel_picture(KERNEL), path)
    kernel = read_kernel(path)
    assert kernel.sum() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(kernel, KERNEL, atol=KERNEL.max() / 255)


def test_the_first_bytes_say_what_it_is_not_the_name(tmp_path):
    path = tmp_path / "k.png"
    path.write_text(as_text(KERNEL))
    np.testing.assert_allclose(read_kernel(path), KERNEL, rtol=1e-6)


def grey_picture(path: Path, *shape: int) -> Path:
    return save(path, np.full(shape, 7, np.uint8))


@pytest.mark.parametrize(
    ("values", "what"),
    [
        (np.ones((13, 13)), "it is 13x13, and must be 15x15"),
        (np.ones((15, 15, 3)), "it is 15x15x3, and must be"),
        (np.ones((0, 15)), "it is 0x15, and must be"),
        (np.float64(1), "a single number, and must be"),
        (np.zeros((15, 15)), "all its values are 0"),
        (KERNEL - 0.01, "negative value (-0.01); set it to 0"),
        (np.where(KERNEL > 0.05, np.nan, KERNEL), "not finite"),
        (np.where(KERNEL > 0.05, np.inf, KERNEL), "not finite"),
        (KERNEL.astype(complex), "complex128; save it as float32"),
        (np.full((15, 15), "1"), "save it as float32"),
    ],
)
def test_arrays_that_are_no_kernel(tmp_path, values, what):
    assert what in error_of(saved_array(tmp_path / "k.npy", values))


def test_pickles_are_not_opened(tmp_path):
    class Harm:
        def __reduce__(self):
            return Path.touch, (tmp_path / "harm",)

    objects = np.full((15, 15), Harm(), dtype=object)
    assert "no whole .npy file" in error_of(saved_array(tmp_path / "k.npy", objects))
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (as_text(KERNEL[:14]), "it is 14x15, and must be 15x15"),
        (as_text(KERNEL).replace("\n", " \n 1 \n", 1), "line 2 has 1 numbers, those before it 15"),
        (as_text(KERNEL, ";"), "line 1 holds more than numbers"),
        (as_text(KERNEL, ",,"), "line 1 holds more than numbers"),
        ("blur\n", "line 1 holds more than numbers"),
        ("# nothing\n", "it has no numbers"),
        (as_text(np.full((15, 15), np.nan)), "not finite"),
        (as_text(-KERNEL), "negative"),
    ],
)
def test_text_that_is_no_kernel(tmp_path, text, what):
    path = tmp_path / "k.txt"
    path.write_text(text)
    assert what in error_of(path)


def test_pictures_that_are_no_kernel(tmp_path):
    path = tmp_path / "k.png"
    assert "16x16 pixels, and must have 15x15" in error_of(grey_picture(path, 16, 16))
    assert "30x15 pixels" in error_of(grey_picture(path, 15, 30))
    assert "all its values are 0" in error_of(save(path, np.zeros((15, 15), np.uint8)))
    blurred = np.zeros((30, 30), np.uint8)
    blurred[14:17, 14:17] = 255
    assert "squares of 2x2 pixels are not of one grey" in error_of(save(path, blurred))
    coloured = np.full((15, 15, 3), 9, np.uint8)
    coloured[3, 4, 2] = 10
    assert "in colour; save it in grey" in error_of(save(path, coloured))
    transparent = np.full((15, 15, 4), 9, np.uint8)
    assert "transparent" in error_of(save(path, transparent))
    assert "pixels" in error_of(grey_picture(path, 15 * 150, 15 * 150))
    assert "a kernel is a .npy array" in error_of(save(tmp_path / "k.jpg", coloured))


def test_files_that_cannot_be_read(tmp_path):
    assert "no such file" in error_of(tmp_path / "missing.npy")
    assert "a folder" in error_of(tmp_path)
    (tmp_path / "empty.txt").touch()
    assert "empty" in error_of(tmp_path / "empty.txt")
    (tmp_path / "large.txt").write_bytes(b"1 " * 2**20)
    assert "too large" in error_of(tmp_path / "large.txt")


@needs_posix
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in error_of(tmp_path / "pipe")


def test_damaged_files_of_each_kind(tmp_path):
    """Cut short, and with random bytes in them: a kernel, or one line."""
    text = tmp_path / "k.txt"
    text.write_text(as_text(KERNEL))
    picture = tmp_path / "k.png"
    write_image(kernel_picture(KERNEL), picture)
    array = saved_array(tmp_path / "k.npy", KERNEL)
    random = np.random.default_rng(0)
    refused = []
    for path in (text, picture, array):
        whole = path.read_bytes()
        for _ in range(150):
            content = bytearray(whole)
            for place in random.integers(0, min(len(content), 400), random.integers(0, 4)):
                content[place] = random.integers(0, 256)
            path.write_bytes(content[: random.integers(1, len(content) + 1)])
            try:
                kernel = read_kernel(path)
            except DmsrError as error:
                refused.append(str(error))
            else:
                assert kernel.shape == (15, 15)
                assert kernel.min() >= 0
                assert kernel.sum() == pytest.approx(1, abs=1e-4)
    assert len(refused) > 300
    assert all(f"{tmp_path / 'k'}." in text and "\n" not in text for text in refused)
