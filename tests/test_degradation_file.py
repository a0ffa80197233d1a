"""Degradation files: written, edited, read, applied; whatever is wrong is one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dmsr_cli import Degradation
from dmsr_cli.degradation import gaussian_kernel
from dmsr_cli.degradation_file import (
    mean_degradation,
    read_degradation,
    read_kernel,
    write_degradation,
)
from dmsr_cli.errors import DmsrError, ExistsError, SettingsError

ORIGIN = {"scale": 4, "model": "dmsr-lite-x4", "source": "photo.png"}


def estimate(seed: int = 0, width: float = 1.6, level: float = 12) -> Degradation:
    """Such as an extractor gives it: a kernel that is nearly Gaussian, noise in each channel."""
    random = np.random.default_rng(seed)
    logits = torch.log(gaussian_kernel(width)) + 0.1 * torch.from_numpy(random.random((15, 15)))
    kernel = torch.softmax(logits.flatten().float(), dim=0).view(15, 15).numpy()
    noise = random.normal(0, level / 255, (7, 9, 3)) * [0.5, 1, 2]
    return Degradation(kernel, noise.astype(np.float32))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "photo.dmsr.json"


@pytest.fixture
def written(path: Path) -> dict:
    """The fields of a file that was written to `path`."""
    write_degradation(path, estimate(), **ORIGIN)
    return json.loads(path.read_text())


def edited(path: Path, fields: dict, *without: str, **changes: object) -> Path:
    fields = {**{name: fields[name] for name in fields if name not in without}, **changes}
    path.write_text(json.dumps(fields))
    return path


def error_of(path: Path) -> str:
    """The message for a wrong file: one line that has its name in it."""
    with pytest.raises(SettingsError) as caught:
        read_degradation(path)
    text = str(caught.value)
    assert path.name in text
    assert "\n" not in text
    assert len(text) < 500
    return text


def test_what_is_written(written, path):
    found = estimate()
    assert list(written) == [
        *("format", "version", "scale", "model", "source", "kernel_width", "kernel"),
        *("noise_level", "noise_levels", "denoise"),
    ]
    assert (written["format"], written["version"], written["denoise"]) == ("dmsr-degradation", 1, 1)
    assert {name: written[name] for name in ORIGIN} == ORIGIN
    assert written["kernel_width"] == found.kernel_width
    assert np.array_equal(np.array(written["kernel"], np.float32), found.kernel)
    assert written["noise_level"] == pytest.approx(found.noise_level, rel=1e-8)
    levels = np.sqrt(np.mean(np.square(found.noise_map.astype(np.float64)), axis=(0, 1))) * 255
    np.testing.assert_allclose(written["noise_levels"], levels, rtol=1e-8)
    assert len(path.read_text().splitlines()) == 28  # a row of the kernel is a line


@pytest.mark.parametrize("seed", range(8))
def test_an_unedited_file_changes_nothing(path, seed):
    found = estimate(seed, width=0.3 + seed / 3, level=0.01 * 5**seed)
    write_degradation(path, found, **ORIGIN)
    settings = read_degradation(path)
    assert settings.scale == 4
    again = settings.apply(found)
    assert np.array_equal(again.kernel, found.kernel)
    assert np.array_equal(again.noise_map, found.noise_map)


def test_it_does_not_replace_what_is_there(path):
    path.write_text("precious")
    with pytest.raises(ExistsError, match="exists already"):
        write_degradation(path, estimate(), **ORIGIN, replace=False)
    assert path.read_text() == "precious"
    assert list(path.parent.iterdir()) == [path]
    write_degradation(path, estimate(), **ORIGIN)
    read_degradation(path)


def test_applied_to_another_picture(written, path):
    other = estimate(1, width=2.2, level=30)
    after = read_degradation(path).apply(other)
    assert np.array_equal(after.kernel, estimate().kernel)
    np.testing.assert_allclose(after.noise_levels, written["noise_levels"], rtol=1e-5)
    assert after.noise_level == pytest.approx(written["noise_level"], rel=1e-5)
    red = other.noise_map[..., 0]
    factor = written["noise_levels"][0] / other.noise_levels[0]
    np.testing.assert_allclose(after.noise_map[..., 0], red * factor, rtol=1e-5)


def test_edited_width(written, path):
    after = read_degradation(edited(path, written, "kernel", kernel_width=2.5)).apply(estimate())
    np.testing.assert_array_equal(after.kernel, gaussian_kernel(2.5)[0].numpy())


def test_edited_kernel(written, path):
    kernel = np.eye(15).tolist()
    after = read_degradation(edited(path, written, "kernel_width", kernel=kernel)).apply(estimate())
    np.testing.assert_allclose(after.kernel, np.eye(15) / 15, rtol=1e-6)


def test_edited_noise(written, path):
    found = estimate()
    after = read_degradation(edited(path, written, "noise_levels", noise_level=20)).apply(found)
    assert after.noise_level == pytest.approx(20, rel=1e-5)
    ratio = np.divide(after.noise_levels, found.noise_levels)
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-5)
    after = read_degradation(edited(path, written, "noise_level", noise_levels=[1, 2, 3]))
    np.testing.assert_allclose(after.apply(found).noise_levels, [1, 2, 3], rtol=1e-5)
    after = read_degradation(edited(path, written, denoise=0.5)).apply(found)
    np.testing.assert_array_equal(after.noise_map, found.noise_map * np.float32(0.5))


@pytest.mark.parametrize("content", ["{}", '\ufeff{"denoise": 1, "source": "a"}'])
def test_what_is_left_out_is_as_estimated(path, content):
    path.write_text(content, "utf-8")
    found = estimate()
    after = read_degradation(path).apply(found)
    assert after.kernel is found.kernel
    assert after.noise_map is found.noise_map


def test_no_noise_has_no_pattern_to_scale(written, path):
    found = estimate()
    silent = Degradation(found.kernel, np.zeros_like(found.noise_map))
    assert not read_degradation(path).apply(silent).noise_map.any()


def test_digest_is_of_what_it_says(written, path):
    digest = read_degradation(path).sha256
    changed = edited(path, written, source="b.png", model="another")
    assert read_degradation(changed).sha256 == digest  # and with other line breaks
    kernel = np.array(written["kernel"])
    kernel[0, 0] += 1e-4
    changes = (
        *({"scale": 2}, {"denoise": 0.9}, {"kernel": kernel.tolist()}),
        *({"noise_levels": written["noise_levels"][::-1]}, {"noise_level": 12.0}),
    )
    for change in changes:
        names = [*change, "kernel_width", *({"noise_level", "noise_levels"} - {*change})]
        base = {name: value for name, value in written.items() if name not in names[1:]}
        digests = {read_degradation(edited(path, base)).sha256}
        digests.add(read_degradation(edited(path, base, **change)).sha256)
        assert len(digests) == 2, change


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"format": "other"}, 'format must be dmsr-degradation, not "other"'),
        ({"version": 2, "colour": "red"}, "version 2, made by a newer dmsr"),
        ({"version": 0}, "version must be 1, not 0"),
        ({"version": "1"}, 'version must be 1, not "1"'),
        ({"scale": 5}, "scale must be one of 2, 3, 4, not 5"),
        ({"scale": True}, "not true"),
        ({"scale": 4.0}, "not 4.0"),
        ({"model": None}, "model must be text, not null"),
        ({"source": ["a\nb"]}, "source must be text"),
        ({"sigma\n": 3}, '"sigma\\n" is no known field'),
        ({"kernel_width": 0}, "kernel_width must be a number above 0 to 20, not 0"),
        ({"kernel_width": "wide"}, 'not "wide"; correct or delete it'),
        ({"kernel_width": float("nan")}, "not NaN"),
        ({"noise_level": -1}, "noise_level must be a number from 0 to 25500, not -1"),
        ({"noise_level": 10**400}, "not 1000000"),
        ({"noise_level": float("inf")}, "not Infinity"),
        ({"noise_level": True}, "not true"),
        ({"noise_levels": [1, 2]}, "noise_levels must be three numbers"),
        ({"noise_levels": [1, 2, 25501]}, "from 0 to 25500, not 25501"),
        ({"noise_levels": {"red": 1}}, "noise_levels must be three numbers"),
        ({"denoise": -0.5}, "denoise must be a number from 0 to 100, not -0.5"),
        ({"kernel": 1}, "kernel must be 15 rows of 15 numbers"),
        ({"kernel": []}, "kernel must be 15 rows of 15 numbers"),
        ({"kernel": [[1] * 14] * 14}, "kernel must be 15 rows of 15 numbers"),
        ({"kernel": [[1] * 15] * 14}, "kernel must be 15 rows of 15 numbers"),
        ({"kernel": [["1"] * 15] * 15}, "kernel must be 15 rows of 15 numbers"),
        ({"kernel": [[0] * 15] * 15}, "all its values are 0"),
        ({"kernel": [[1] * 15] * 14 + [[-1] * 15]}, "negative value (-1)"),
        ({"kernel": [[1] * 15] * 14 + [[float("nan")] * 15]}, "not finite"),
        ({"kernel": [[10**400] * 15] * 15}, "kernel cannot be used"),
    ],
)
def test_wrong_fields(written, path, changes, what):
    assert what in error_of(edited(path, written, "kernel_width", "noise_level", **changes))


def test_contradictions(written, path):
    text = error_of(edited(path, written, kernel_width=written["kernel_width"] + 0.02))
    assert "kernel_width is" in text
    assert "but kernel makes it" in text
    assert "delete the one that is not meant" in text
    text = error_of(edited(path, written, noise_level=written["noise_level"] + 0.02))
    assert "but noise_levels makes it" in text
    assert "delete the one that is not meant" in text
    rounded = {"noise_level": round(written["noise_level"], 2)}
    rounded["noise_levels"] = [round(level, 2) for level in written["noise_levels"]]
    read_degradation(edited(path, written, **rounded))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "the file is empty"),
        (b"[]", "no JSON object"),
        (b'{"denoise": 1,}', "no JSON ("),
        (b'{"denoise": 1, "denoise": 2}', '"denoise" is there twice'),
        (b"\xff\xfe{\x00}\x00", "no UTF-8 text"),
        (b"[" * 100_000, "nested too deeply"),
        (b"1" * 2**20 + b"1", "too large"),
        (b'{"denoise": ' + b"1" * 5000 + b"}", "no JSON ("),
    ],
)
def test_files_of_another_kind(path, content, what):
    path.write_bytes(content)
    assert what in error_of(path)


def test_missing_file_and_folder(tmp_path):
    assert "no such file" in error_of(tmp_path / "missing.dmsr.json")
    assert "it is a folder" in error_of(tmp_path)


def test_damaged_files(written, path):
    """Cut short, and with random bytes in them: settings, or one line."""
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    refused = []
    for _ in range(300):
        content = bytearray(whole)
        for place in random.integers(0, len(content), random.integers(0, 4)):
            content[place] = random.integers(32, 256)
        path.write_bytes(content[: random.integers(1, 2 * len(content))])
        try:
            after = read_degradation(path).apply(estimate())
        except DmsrError as error:
            refused.append(str(error))
        else:
            assert np.isfinite(after.noise_map).all()
            assert after.kernel.sum() == pytest.approx(1, abs=1e-4)
    assert 150 < len(refused) < 300
    assert all("photo.dmsr.json" in text and "\n" not in text for text in refused)


class TestMean:
    def test_kernel_and_levels(self):
        found = [estimate(seed, width=1 + seed / 2, level=5 + 10 * seed) for seed in range(3)]
        mean = mean_degradation(iter(found))
        expected = np.mean([one.kernel.astype(np.float64) for one in found], axis=0)
        np.testing.assert_allclose(mean.kernel, expected, atol=1e-7)
        assert mean.kernel.dtype == np.float32
        levels = np.array([one.noise_levels for one in found])
        expected = np.sqrt(np.mean(levels**2, axis=0))
        np.testing.assert_allclose(mean.noise_levels, expected, rtol=1e-6)
        rms = np.sqrt(np.mean([one.noise_level**2 for one in found]))
        assert mean.noise_level == pytest.approx(rms, rel=1e-6)

    def test_of_condensed_ones_is_the_same(self):
        found = [estimate(seed, level=5 + 10 * seed) for seed in range(3)]
        condensed = mean_degradation([mean_degradation([one]) for one in found])
        mean = mean_degradation(found)
        np.testing.assert_allclose(condensed.kernel, mean.kernel, atol=1e-8)
        np.testing.assert_allclose(condensed.noise_map, mean.noise_map, rtol=1e-6)

    def test_written_and_applied(self, path):
        mean = mean_degradation([estimate(0), estimate(1, width=2)])
        write_degradation(path, mean, **ORIGIN)
        after = read_degradation(path).apply(estimate(2))
        assert np.array_equal(after.kernel, mean.kernel)
        np.testing.assert_allclose(after.noise_levels, mean.noise_levels, rtol=1e-6)

    def test_of_none_or_of_different_sizes(self):
        small = Degradation(gaussian_kernel(1.0, 13)[0].numpy(), estimate().noise_map)
        for found in ([], [estimate(), small]):
            with pytest.raises(SettingsError, match="one kernel size"):
                mean_degradation(found)


def test_kernel_of_a_degradation_is_that_of_its_array(written, path, tmp_path):
    np.save(tmp_path / "k.npy", estimate().kernel)
    assert np.array_equal(read_kernel(tmp_path / "k.npy"), read_degradation(path).kernel)
