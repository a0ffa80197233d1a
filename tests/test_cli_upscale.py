"""`dmsr upscale` and `dmsr estimate` as a user runs them: in a process of their own."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command_line import dmsr
from dmsr_cli.config import DMSRConfig
from dmsr_cli.model import DMSR
from dmsr_cli.weights import save_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    import torch

    torch.manual_seed(0)
    small = {"channels": 8, "groups": 1, "blocks": 1, "reduction": 4, "upsampled_channels": 4}
    small |= {"extractor_channels": 8, "extractor_blocks": 1, "blur_channels": 8, "deblur_size": 3}
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(DMSR(DMSRConfig(scale=2, **small)), path)
    return str(path)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 256, (23, 17, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_one_picture_lands_beside_its_input(photo: Path, weights: str) -> None:
    done = dmsr("upscale", photo, "--model", weights)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert names(photo.parent) == {"photo.png", "photo_x2.png"}
    assert Image.open(photo.parent / "photo_x2.png").size == (34, 46)


def test_json_is_alone_on_standard_output(photo: Path, weights: str, tmp_path: Path) -> None:
    done = dmsr("upscale", photo, tmp_path / "missing.png", "--model", weights, "--json")
    assert done.returncode == 1
    ok, failed = (json.loads(line) for line in done.stdout.splitlines())
    assert set(ok) == {
        *("input", "output", "status", "error", "scale", "width", "height", "model"),
        *("kernel_width", "noise_level", "seconds", "frames", "warnings"),
        *("reason", "input_pixels", "started", "finished"),
        *("overrides", "estimated_kernel_width", "estimated_noise_level"),
        *("consistency", "damage_in_range"),
    }
    assert (ok["status"], ok["scale"], ok["width"], ok["height"]) == ("ok", 2, 34, 46)
    assert ok["error"] is None
    assert ok["kernel_width"] > 0
    assert failed["status"] == "failed"
    assert "missing.png" in failed["error"]
    assert "1 done, 0 skipped, 1 failed" in done.stderr


def test_everything_that_can_lie_beside_a_result(photo: Path, weights: str) -> None:
    out = photo.parent / "out"
    done = dmsr(
        *("upscale", photo, "-o", f"{out}/", "--model", weights, "--save-degradation", "--compare")
    )
    assert done.returncode == 0, done.stderr
    stem = "photo_x2"
    assert names(out) == {
        *(f"{stem}.png", f"{stem}_compare.png", f"{stem}_kernel.png", f"{stem}_kernel.npy"),
        *(f"{stem}_noise.png", f"{stem}_noise.npy", f"{stem}.dmsr.json"),
        *(f"{stem}_consistency.png", f"{stem}_consistency.npy"),
    }
    kernel = np.load(out / f"{stem}_kernel.npy")
    assert kernel.shape == (15, 15)
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    assert np.load(out / f"{stem}_noise.npy").shape == (23, 17, 3)
    assert Image.open(out / f"{stem}_compare.png").size == (2 * 34 + 4, 46)


def test_a_companion_that_exists_is_refused_before_anything_is_made(
    photo: Path, weights: str
) -> None:
    precious = photo.parent / "photo_x2_noise.npy"
    precious.write_bytes(b"precious")
    done = dmsr("upscale", photo, "--model", weights, "--save-degradation", "--compare")
    assert done.returncode == 1
    assert "photo_x2_noise.npy exists already" in done.stderr
    assert names(photo.parent) == {"photo.png", "photo_x2_noise.npy"}
    assert precious.read_bytes() == b"precious"


@pytest.mark.skipif(os.name == "nt", reason="names there are Unicode without line breaks")
@pytest.mark.parametrize("name", [b"two\nlines.png", b"not-utf8-\xff.png", "grün ☂.png".encode()])
def test_odd_names(name: bytes, photo: Path, weights: str) -> None:
    odd = photo.with_name(os.fsdecode(name))
    photo.rename(odd)
    for command in ("upscale", "estimate"):
        done = dmsr(command, odd, "--model", weights)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
    assert odd.with_name(f"{odd.stem}_x2.png") in set(odd.parent.iterdir())


def test_folder_with_a_bad_file(weights: str, photo: Path, tmp_path: Path) -> None:
    folder = tmp_path / "album"
    (folder / "inner").mkdir(parents=True)
    Image.open(photo).save(folder / "a.png")
    Image.open(photo).save(folder / "a.jpg")
    Image.open(photo).convert("1").save(folder / "a.pbm")  # cannot be written: becomes PNG
    Image.open(photo).convert("L").save(folder / "inner" / "grey.webp")
    rgba = Image.open(photo).convert("RGBA")
    rgba.putalpha(100)
    rgba.save(folder / "inner" / "alpha.png")
    (folder / "broken.png").write_text("not a picture")
    (folder / "notes.txt").write_text("not for us")
    done = dmsr("upscale", folder, "-r", "--model", weights)
    assert done.returncode == 1
    assert "broken.png" in done.stderr
    assert "5 done, 0 skipped, 1 failed" in done.stderr
    out = tmp_path / "album_x2"
    manifest = ".dmsr-results.jsonl"
    assert names(out) == {"a.png_x2.png", "a_x2.jpg", "a_x2.png", "inner", manifest}
    assert names(out / "inner") == {"grey_x2.webp", "alpha_x2.png", manifest}
    assert "1 other file left alone" in done.stderr
    assert Image.open(out / "inner" / "alpha_x2.png").getpixel((5, 5))[3] == 100


def test_grey_stays_grey(tmp_path: Path, weights: str) -> None:
    Image.linear_gradient("L").crop((0, 0, 9, 31)).save(tmp_path / "grey.png")
    done = dmsr("upscale", tmp_path / "grey.png", "--model", weights)
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "grey_x2.png").mode == "L"


def test_existing_results_are_safe(photo: Path, weights: str) -> None:
    target = photo.parent / "photo_x2.png"
    target.write_bytes(b"precious")
    refused = dmsr("upscale", photo, "--model", weights)
    assert refused.returncode == 1
    assert "--overwrite" in refused.stderr
    foreign = dmsr("upscale", photo, "--model", weights, "--skip-existing", "--json")
    assert foreign.returncode == 1
    assert "not known as a result" in json.loads(foreign.stdout)["error"]
    assert target.read_bytes() == b"precious"
    replaced = dmsr("upscale", photo, "--model", weights, "--overwrite")
    assert replaced.returncode == 0
    assert Image.open(target).size == (34, 46)
    skipped = dmsr("upscale", photo, "--model", weights, "--skip-existing", "--json")
    assert skipped.returncode == 0
    assert json.loads(skipped.stdout)["status"] == "skipped"


def test_input_is_not_its_own_output(photo: Path, weights: str) -> None:
    before = photo.read_bytes()
    done = dmsr("upscale", photo, "-o", photo, "--model", weights)
    assert done.returncode == 1
    assert "is the input itself" in done.stderr
    assert photo.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["missing.png"], 1, ["missing.png", "no such file"]),
        (["text.png"], 1, ["text.png", "not a picture"]),
        (["truncated.png"], 1, ["truncated.png", "cut short"]),
        (["empty"], 1, ["empty", "no pictures"]),
        (["photo.png", "-o", "nowhere.xyz"], 1, ["nowhere.xyz", ".png"]),
        (["photo.png", "-o", "text.png/out/"], 1, ["text.png/out"]),
        (["photo.png", "photo.png", "-o", "one.png"], 2, ["one.png", "several inputs"]),
        (["photo.png", "-s", "5"], 2, ["5", "2"]),
        (["photo.png", "-s", "3"], 2, ["x2 model", "-s 2"]),
        (["photo.png", "--model", "dmsr-huge"], 2, ["dmsr-huge", "known are"]),
        (["photo.png", "--model", "other.safetensors"], 1, ["other.safetensors"]),
        (["photo.png", "--model", "absent.safetensors"], 1, ["absent.safetensors"]),
        (["photo.png", "--model", "net.pth"], 1, ["net.pth", "safetensors"]),
        (["photo.png", "--device", "cuda:7"], 2, ["cuda:7", "--device cpu"]),
        (["photo.png", "--device", "toaster"], 2, ["toaster", "cpu"]),
        (["photo.png", "--tile", "3"], 2, ["3", "auto"]),
        (["photo.png", "--tile", "16", "--overlap", "16"], 2, ["overlap", "15"]),
        (["photo.png", "--noise-level", "1", "--denoise", "1"], 2, ["exclude"]),
        ([], 2, ["INPUT"]),
    ],
)
def test_bad_input_gets_one_line(
    arguments: list[str], status: int, words: list[str], photo: Path, weights: str
) -> None:
    folder = photo.parent
    (folder / "text.png").write_text("this is text")
    (folder / "truncated.png").write_bytes(photo.read_bytes()[:-300])
    (folder / "empty").mkdir()
    (folder / "net.pth").write_bytes(b"PK\x03\x04")
    from safetensors.numpy import save_file

    save_file({"layer": np.zeros(3, np.float32)}, folder / "other.safetensors")
    if "--model" not in arguments:
        arguments = [*arguments, "--model", weights]
    before = names(folder)
    done = dmsr("upscale", *arguments, cwd=folder)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if "rror" in line]
    assert len(errors) == 1, done.stderr
    for word in words:
        assert word in errors[0]
    assert names(folder) == before


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder(photo: Path, weights: str) -> None:
    photo.parent.chmod(0o500)
    try:
        done = dmsr("upscale", photo, "--model", weights)
    finally:
        photo.parent.chmod(0o700)
    assert done.returncode == 1
    assert "photo_x2.png" in done.stderr


def test_debug_shows_where(photo: Path, weights: str) -> None:
    done = dmsr("upscale", photo.parent / "missing.png", "--model", weights, "--debug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_tiles_give_the_same_size_and_nearly_the_same_picture(tmp_path: Path, weights: str) -> None:
    pixels = np.random.default_rng(1).integers(100, 150, (53, 41, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    for name, tile in (("whole", "0"), ("tiled", "24")):
        target = tmp_path / f"{name}.png"
        done = dmsr(
            *("upscale", tmp_path / "a.png", "-o", target, "--model", weights, "--tile", tile)
        )
        assert done.returncode == 0, done.stderr
    whole, tiled = (
        np.asarray(Image.open(tmp_path / f"{name}.png"), dtype=int) for name in ("whole", "tiled")
    )
    assert whole.shape == tiled.shape == (106, 82, 3)
    assert abs(whole - tiled).mean() < 2


def test_estimate_says_and_saves(photo: Path, weights: str, tmp_path: Path) -> None:
    out = tmp_path / "what"
    done = dmsr("estimate", photo, "-o", out, "--model", weights)
    assert done.returncode == 0, done.stderr
    assert "blur, about" in done.stdout
    assert "noise, sigma about" in done.stdout
    parts = ("_kernel.png", "_kernel.npy", "_noise.png", "_noise.npy", "_noise_overlay.png")
    assert names(out) == {f"photo_png{part}" for part in (*parts, ".dmsr.json")}
    again = dmsr("estimate", photo, "-o", out, "--model", weights)
    assert again.returncode == 1
    assert "--overwrite" in again.stderr


def test_estimates_of_like_names_do_not_meet(photo: Path, weights: str, tmp_path: Path) -> None:
    copies = [tmp_path / name for name in ("one/a.b.png", "one/a_b.png", "two/a.b.png")]
    for copy in copies:
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(photo.read_bytes())
    out = tmp_path / "what"
    assert dmsr("estimate", *copies, "-o", out, "--model", weights).returncode == 0
    saved = {path.name for path in out.glob("*_kernel.npy")}
    assert saved == {f"a_b_png{number}_kernel.npy" for number in ("", "_2", "_3")}


def test_estimate_as_json(photo: Path, weights: str, tmp_path: Path) -> None:
    done = dmsr("estimate", photo, tmp_path / "no.png", "--model", weights, "--json")
    assert done.returncode == 1
    ok, failed = (json.loads(line) for line in done.stdout.splitlines())
    assert ok["status"] == "ok"
    assert (ok["width"], ok["height"], ok["output"]) == (17, 23, None)
    assert failed["error"].count("\n") == 0
    assert names(tmp_path) == {"photo.png"}


def test_overrides_are_used(photo: Path, weights: str) -> None:
    done = dmsr(
        *("upscale", photo, "--model", weights, "--json", "--kernel-width", "1.7"),
        *("--noise-level", "12"),
    )
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["kernel_width"] == pytest.approx(1.7, abs=0.02)
    assert record["noise_level"] == pytest.approx(12, abs=0.05)
