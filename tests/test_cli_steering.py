"""--degradation, --kernel and the like: what they do to the estimate, and what is told of it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from dmsr_cli import Degradation, Model, estimate, load_model, read_image
from dmsr_cli.cli.main import main
from dmsr_cli.degradation import gaussian_kernel
from dmsr_cli.degradation_file import read_degradation, write_degradation
from dmsr_cli.images import read_provenance
from dmsr_cli.model import DMSR
from dmsr_cli.weights import save_weights
from pictures import save
from tiny_weights import TINY, tiny_model

WIDE = gaussian_kernel(2.5)[0].numpy()
Run = Callable[..., "tuple[int, list[dict], str]"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """a.png, b.png, tiny.safetensors (x2) and wide.npy in the current folder."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate("ab"):
        pixels = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
        save(Path(f"{name}.png"), pixels)
    save_weights(tiny_model(scale=2), "tiny.safetensors")
    np.save("wide.npy", WIDE)
    return tmp_path


@pytest.fixture
def dmsr(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the tool with the tiny model; gives exit status, records and what was said."""

    def run(*arguments: str, model: str = "tiny.safetensors") -> tuple[int, list[dict], str]:
        capsys.readouterr()
        status = main([*arguments, "--model", model, "--json"])
        output = capsys.readouterr()
        return status, [json.loads(line) for line in output.out.splitlines()], output.err

    return run


def model_of() -> Model:
    return load_model("tiny.safetensors", "cpu")


def found_in(name: str) -> Degradation:
    return estimate(read_image(name), model_of())


def used(stem: str) -> Degradation:
    """What --save-degradation has left."""
    return Degradation(np.load(f"{stem}_kernel.npy"), np.load(f"{stem}_noise.npy"))


def write_json(name: str, **fields: object) -> str:
    Path(name).write_text(json.dumps(fields))
    return name


def refused(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 2) -> str:
    """What is said to wrong settings, before any picture is touched."""
    before = sorted(Path().iterdir())
    assert main(["upscale", "a.png", "b.png", "--model", "tiny.safetensors", *arguments]) == status
    assert sorted(Path().iterdir()) == before
    output = capsys.readouterr()
    assert output.out == ""
    assert "a.png" not in output.err
    return output.err


def test_without_steering_the_estimate_is_used(folder, dmsr):
    status, (record,), _ = dmsr("upscale", "a.png")
    assert status == 0
    assert record["overrides"] == {}
    assert record["estimated_kernel_width"] == record["kernel_width"] > 0
    assert record["estimated_noise_level"] == record["noise_level"] > 0


def test_what_fails_or_is_skipped_has_no_estimate(folder, dmsr):
    status, records, _ = dmsr("upscale", "none.png", "a.png", "--denoise", "2")
    assert status == 1
    _, (skipped,), _ = dmsr("upscale", "a.png", "--skip-existing", "--denoise", "2")
    for record in (records[0], skipped):
        assert record["overrides"] == {"denoise": 2}
        assert record["estimated_kernel_width"] is None
        assert record["estimated_noise_level"] is None


def test_a_kernel_from_a_file(folder, dmsr):
    status, (record,), _ = dmsr("upscale", "a.png", "--kernel", "wide.npy", "--save-degradation")
    assert status == 0
    np.testing.assert_array_equal(used("a_x2").kernel, WIDE)
    np.testing.assert_array_equal(used("a_x2").noise_map, found_in("a.png").noise_map)
    assert record["overrides"] == {"kernel": "wide.npy"}
    assert record["kernel_width"] == 2.5
    assert record["estimated_kernel_width"] == found_in("a.png").kernel_width != 2.5


def test_our_own_kernel_picture_can_be_used(folder, dmsr):
    dmsr("upscale", "a.png", "--kernel", "wide.npy", "--save-degradation")
    dmsr("upscale", "b.png", "--kernel", "a_x2_kernel.png", "--save-degradation")
    np.testing.assert_allclose(used("b_x2").kernel, WIDE, atol=WIDE.max() / 255)


def test_the_file_comes_first_and_options_on_top(folder, dmsr):
    settings = write_json("s.dmsr.json", kernel_width=2.5, noise_levels=[3, 4, 5], denoise=0.5)
    saving = ("upscale", "a.png", "--degradation", settings, "--save-degradation", "--overwrite")
    _, (record,), _ = dmsr(*saving)
    np.testing.assert_array_equal(used("a_x2").kernel, WIDE)
    np.testing.assert_allclose(used("a_x2").noise_levels, [1.5, 2, 2.5], rtol=1e-5)
    assert record["overrides"] == {"degradation": "s.dmsr.json"}
    assert record["noise_level"] == pytest.approx(2.04)
    assert record["estimated_noise_level"] == round(found_in("a.png").noise_level, 2)
    dmsr(*saving, "--denoise", "2")
    np.testing.assert_allclose(used("a_x2").noise_levels, [3, 4, 5], rtol=1e-5)
    _, (record,), _ = dmsr(*saving, "--noise-level", "7", "--kernel-width", "0.8")
    assert record["noise_level"] == 7
    assert record["kernel_width"] == 0.8
    assert record["overrides"] == {
        **{"degradation": "s.dmsr.json", "kernel_width": 0.8, "noise_level": 7},
    }
    np.save("narrow.npy", gaussian_kernel(0.4)[0].numpy())
    assert dmsr(*saving, "--kernel", "narrow.npy")[1][0]["kernel_width"] == 0.4


def test_a_saved_degradation_repeats_a_run(folder, dmsr):
    steering = ("--kernel-width", "1.9", "--denoise", "70")
    dmsr("upscale", "a.png", "-o", "first.png", *steering, "--save-degradation")
    assert read_degradation("first.dmsr.json").scale == 2
    said = json.loads(Path("first.dmsr.json").read_text())
    assert (said["model"], said["source"]) == ("tiny.safetensors", "a.png")
    repeating = ("--degradation", "first.dmsr.json", "--save-degradation")
    dmsr("upscale", "a.png", "-o", "again.png", *repeating)
    np.testing.assert_array_equal(used("again").kernel, used("first").kernel)
    np.testing.assert_allclose(used("again").noise_map, used("first").noise_map, rtol=1e-6)
    first, again = (np.asarray(PIL.Image.open(f"{name}.png")) for name in ("first", "again"))
    np.testing.assert_array_equal(again, first)


def test_all_frames_are_steered(folder, dmsr):
    frames = [PIL.Image.fromarray(np.full((9, 12, 3), level, np.uint8)) for level in (9, 200)]
    frames[0].save("a.gif", save_all=True, append_images=frames[1:], duration=50)
    _, (record,), _ = dmsr("upscale", "a.gif", "--kernel", "wide.npy", "--save-degradation")
    assert (record["frames"], record["kernel_width"]) == (2, 2.5)
    assert record["estimated_kernel_width"] != 2.5
    assert json.loads(Path("a_x2.dmsr.json").read_text())["source"] == "a.gif"


def test_the_first_of_two_passes_is_steered(folder, dmsr):
    write_json("s.dmsr.json", scale=3, kernel_width=2.5)
    arguments = ("upscale", "a.png", "-s", "5", "--passes", "2", "--save-degradation")
    status, (record,), _ = dmsr(*arguments, "--degradation", "s.dmsr.json", model="dmsr-lite")
    assert (status, record["kernel_width"]) == (0, 2.5)
    assert json.loads(Path("a_x5.dmsr.json").read_text())["model"] == "dmsr-lite-x3"
    write_json("s.dmsr.json", scale=2, kernel_width=2.5)
    status, records, said = dmsr(
        *arguments, "--degradation", "s.dmsr.json", "--overwrite", model="dmsr-lite"
    )
    assert (status, records) == (2, [])
    assert "s.dmsr.json is for x2, and dmsr-lite-x3 is x3: use -s 2" in said


def test_with_a_size_the_picture_decides_whether_the_file_fits(folder, dmsr):
    save(Path("small.png"), np.full((5, 6, 3), 99, np.uint8))  # needs x4 where a.png needs x2
    write_json("s.dmsr.json", scale=2, kernel_width=2.5)
    arguments = ("upscale", "a.png", "small.png", "--size", "24x18", "--degradation", "s.dmsr.json")
    for extra in ((), ("--dry-run",)):
        status, records, said = dmsr(*arguments, *extra, "--overwrite", model="dmsr-lite")
        assert status == 1
        assert [record["status"] == "failed" for record in records] == [False, True]
        assert "small.png: s.dmsr.json is for x2, and dmsr-lite-x4 is x4" in said


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("--kernel", "wide.npy", "--kernel-width", "2"), "exclude each other"),
        (("--kernel", "none.npy"), "cannot read none.npy: no such file"),
        (("--kernel", "tiny.safetensors"), "tiny.safetensors cannot be used as a blur kernel"),
        (("--degradation", "none.dmsr.json"), "cannot read none.dmsr.json: no such file"),
        (("--degradation", "wide.npy"), "wide.npy: it is no UTF-8 text"),
        (
            ("--degradation", "x4.dmsr.json"),
            "x4.dmsr.json is for x4, and tiny.safetensors is x2: use -s 4",
        ),
        (
            ("--degradation", "small.dmsr.json"),
            "in small.dmsr.json is 13x13, and tiny.safetensors needs 15x15",
        ),
    ],
)
@pytest.mark.parametrize("extra", [(), ("--dry-run",), ("--skip-existing",)])
def test_wrong_settings_are_refused_before_anything_is_done(folder, capsys, arguments, what, extra):
    write_json("x4.dmsr.json", scale=4)
    write_json("small.dmsr.json", kernel=[[1] * 13] * 13)
    assert what in refused(capsys, *arguments, *extra)


def test_a_kernel_for_a_network_of_another_size(folder, capsys):
    torch.manual_seed(0)
    network = DMSR(dataclasses.replace(TINY, scale=2, kernel_size=13, embedding=4))
    save_weights(network, "tiny.safetensors")
    said = refused(capsys, "--kernel", "wide.npy")
    assert "the kernel in wide.npy is 15x15, and tiny.safetensors needs 13x13" in said


def test_the_content_of_the_files_counts_not_their_names(folder, dmsr):
    write_json("s.dmsr.json", kernel_width=1.5)
    arguments = ("upscale", "a.png", "b.png", "-o", "out/", "--skip-existing")
    steering = ("--kernel", "wide.npy", "--degradation", "s.dmsr.json")

    def statuses(*options: str) -> list[str]:
        return [record["status"] for record in dmsr(*arguments, *options)[1]]

    assert statuses(*steering) == ["ok", "ok"]
    assert statuses(*steering) == ["skipped", "skipped"]
    Path("renamed.npy").write_bytes(Path("wide.npy").read_bytes())
    write_json("t.dmsr.json", kernel_width=1.5, source="told apart by nothing that counts")
    assert statuses("--kernel", "renamed.npy", "--degradation", "t.dmsr.json") == ["skipped"] * 2
    np.save("wide.npy", gaussian_kernel(2.4)[0].numpy())
    _, records, said = dmsr(*arguments, *steering)
    assert [record["status"] for record in records] == ["ok", "ok"]
    assert "was made with another --kernel file" in said
    write_json("s.dmsr.json", kernel_width=1.4)
    _, records, said = dmsr(*arguments, *steering)
    assert [record["status"] for record in records] == ["ok", "ok"]
    assert "was made with another --degradation file" in said
    said = dmsr(*arguments, "--degradation", "s.dmsr.json")[2]
    assert "was made with --kernel\n" in said
    said = dmsr(*arguments, *steering)[2]
    assert "was made without --kernel\n" in said


def test_the_note_differs_by_the_content_alone(folder, dmsr):
    np.save("renamed.npy", WIDE)
    np.save("other.npy", gaussian_kernel(2.4)[0].numpy())
    notes = []
    for kernel in ("wide.npy", "renamed.npy", "other.npy"):
        dmsr("upscale", "a.png", "--kernel", kernel, "--overwrite")
        note = read_provenance("a_x2.png")
        assert note is not None
        notes.append(note.settings)
    assert notes[0] == notes[1] != notes[2]


class TestEstimateIntoAFile:
    """dmsr estimate -o NAME.dmsr.json, edit, dmsr upscale --degradation NAME.dmsr.json."""

    def test_from_one_picture_to_another_of_the_same_camera(self, folder, dmsr):
        status, (record,), _ = dmsr("estimate", "a.png", "-o", "a.dmsr.json")
        assert (status, record["output"]) == (0, "a.dmsr.json")
        fields = json.loads(Path("a.dmsr.json").read_text())
        assert fields["kernel_width"] == record["kernel_width"]
        assert fields["scale"] == 2
        del fields["noise_levels"]
        Path("a.dmsr.json").write_text(json.dumps({**fields, "noise_level": 9}))
        arguments = ("upscale", "b.png", "--degradation", "a.dmsr.json", "--save-degradation")
        status, (record,), _ = dmsr(*arguments)
        assert status == 0
        np.testing.assert_array_equal(used("b_x2").kernel, found_in("a.png").kernel)
        own = found_in("b.png")
        assert record["noise_level"] == 9
        assert record["estimated_noise_level"] == round(own.noise_level, 2)
        expected = own.with_noise_level(9).noise_map
        np.testing.assert_allclose(used("b_x2").noise_map, expected, rtol=1e-5, atol=1e-8)

    def test_an_unedited_file_gives_the_same_result(self, folder, dmsr):
        dmsr("estimate", "a.png", "-o", "a.dmsr.json")
        dmsr("upscale", "a.png", "-o", "plain.png", "--no-provenance")
        dmsr(
            *("upscale", "a.png", "-o", "same.png", "--no-provenance"),
            "--degradation",
            "a.dmsr.json",
        )
        assert Path("same.png").read_bytes() == Path("plain.png").read_bytes()

    def test_the_mean_of_a_burst(self, folder, dmsr):
        status, records, said = dmsr("estimate", "a.png", "b.png", "--mean", "-o", "m.dmsr.json")
        assert status == 0
        assert [record["output"] for record in records] == [None, None]
        assert "m.dmsr.json: mean of 2 pictures: " in said
        settings = read_degradation("m.dmsr.json")
        expected = (found_in("a.png").kernel + found_in("b.png").kernel) / 2
        np.testing.assert_allclose(settings.kernel, expected, atol=1e-7)
        both = [found_in("a.png").noise_level, found_in("b.png").noise_level]
        assert settings.noise_level == pytest.approx(np.sqrt(np.mean(np.square(both))), rel=1e-6)
        status, (record,), _ = dmsr("upscale", "a.png", "--degradation", "m.dmsr.json")
        assert (status, record["noise_level"]) == (0, round(settings.noise_level, 2))

    def test_a_bad_picture_is_left_out_of_the_mean(self, folder, dmsr):
        Path("c.png").write_bytes(b"no picture")
        status, _, said = dmsr("estimate", "a.png", "c.png", "--mean", "-o", "m.dmsr.json")
        assert status == 1
        assert "m.dmsr.json: mean of 1 picture: " in said
        status, _, said = dmsr("estimate", "c.png", "--mean", "-o", "none.dmsr.json")
        assert status == 1
        assert "none.dmsr.json is not written" in said
        assert not Path("none.dmsr.json").exists()

    @pytest.mark.parametrize("mean", [(), ("--mean",)])
    def test_a_file_that_is_there_is_kept(self, folder, dmsr, mean):
        Path("a.dmsr.json").write_text("precious")
        status, records, said = dmsr("estimate", "a.png", "-o", "a.dmsr.json", *mean)
        assert (status, records) == (1, [])
        assert "a.dmsr.json exists already: use --overwrite" in said
        assert Path("a.dmsr.json").read_text() == "precious"
        assert dmsr("estimate", "a.png", "-o", "a.dmsr.json", *mean, "--overwrite")[0] == 0
        read_degradation("a.dmsr.json")

    def test_what_does_not_go_together(self, folder, dmsr):
        status, _, said = dmsr("estimate", "a.png", "b.png", "-o", "m.dmsr.json")
        assert status == 2
        assert "m.dmsr.json is for one picture: use --mean, or -o FOLDER" in said
        for output in ((), ("-o", "what/")):
            status, _, said = dmsr("estimate", "a.png", "--mean", *output)
            assert status == 2
            assert "--mean needs -o FILE.dmsr.json" in said

    def test_a_folder_holds_such_a_file_of_each(self, folder, dmsr):
        assert dmsr("estimate", "a.png", "b.png", "-o", "what")[0] == 0
        for name in "ab":
            settings = read_degradation(f"what/{name}_png.dmsr.json")
            np.testing.assert_array_equal(settings.kernel, found_in(f"{name}.png").kernel)


def test_a_file_made_in_python_is_one_for_the_command(folder, dmsr):
    write_degradation(
        "p.dmsr.json", found_in("a.png").with_kernel_width(2.5), scale=2, model="m", source="a.png"
    )
    assert dmsr("upscale", "b.png", "--degradation", "p.dmsr.json")[1][0]["kernel_width"] == 2.5
