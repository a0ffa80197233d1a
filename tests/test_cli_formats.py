"""`dmsr upscale` and the container: pipes, formats, metadata, animations, clips."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import imagecodecs
import numpy as np
import PIL.Image
import pytest
import tifffile

from dmsr_cli import __version__, pipeline
from dmsr_cli.cli.main import INTERRUPTED, main
from dmsr_cli.images import read_provenance
from dmsr_cli.weights import save_weights
from pictures import needs_posix
from tiny_weights import tiny_model

MODEL = ["--model", "tiny.safetensors", "--device", "cpu"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a x2 network and photo.jpg, 12 x 9, by a camera, turned."""
    monkeypatch.chdir(tmp_path)
    save_weights(tiny_model(scale=2), tmp_path / "tiny.safetensors")
    pixels = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    exif = PIL.Image.Exif()
    exif[0x010F], exif[0x0112] = "Camera", 6  # make; to be turned right
    PIL.Image.fromarray(pixels).save("photo.jpg", exif=exif, dpi=(300, 300))
    return tmp_path


def upscale(*arguments: object) -> int:
    return main(["upscale", *map(str, arguments), *MODEL])


def opened(path: Path | str) -> PIL.Image.Image:
    with PIL.Image.open(path) as picture:
        picture.load()
    return picture


def animation(path: str, durations: tuple[int, ...] = (100, 200, 300)) -> None:
    """A picture that is turned, in so many frames."""
    first = PIL.Image.open("photo.jpg")
    frames = [first.rotate(90 * number) for number in range(len(durations))]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=list(durations), loop=0)


def names() -> list[str]:
    return sorted(path.name for path in Path.cwd().iterdir())


# Pipes


def piped(*arguments: str, given: bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "dmsr_cli", *arguments, *MODEL],
        input=given,
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        timeout=300,
        check=False,
    )


def test_a_picture_through_pipes(folder: Path) -> None:
    # The note says from which file a result was made, which a pipe does not tell.
    assert upscale("photo.jpg", "--no-provenance") == 0
    done = piped("upscale", "-", "--no-provenance", given=Path("photo.jpg").read_bytes())
    assert done.returncode == 0, done.stderr
    assert done.stdout == Path("photo_x2.jpg").read_bytes()
    assert b"standard input -> standard output (18x24" in done.stderr
    assert names() == ["photo.jpg", "photo_x2.jpg", "tiny.safetensors"]


def test_a_pipe_in_or_out_alone(folder: Path) -> None:
    done = piped("upscale", "-", "-o", "a.webp", "--json", given=Path("photo.jpg").read_bytes())
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert (record["input"], record["output"]) == ("-", "a.webp")
    assert opened("a.webp").format == "WEBP"
    done = piped("upscale", "photo.jpg", "-o", "-", "--format", "tif", given=b"")
    assert PIL.Image.open(io.BytesIO(done.stdout)).format == "TIFF"


def test_an_animation_through_pipes(folder: Path) -> None:
    animation("a.gif")
    done = piped("upscale", "-", given=Path("a.gif").read_bytes())
    assert done.returncode == 0, done.stderr
    assert PIL.Image.open(io.BytesIO(done.stdout)).n_frames == 3


@pytest.mark.parametrize("given", [b"", b"no picture", b"\x89PNG\r\n\x1a\n"])
def test_a_pipe_without_a_picture(folder: Path, given: bytes) -> None:
    done = piped("upscale", "-", given=given)
    assert done.returncode == 1
    assert done.stdout == b""
    lines = done.stderr.decode().splitlines()
    assert [line for line in lines if "standard input" in line and "error" in line] == lines[-1:]


def test_estimate_of_standard_input(folder: Path) -> None:
    done = piped("estimate", "-", "-o", "what", given=Path("photo.jpg").read_bytes())
    assert done.returncode == 0, done.stderr
    assert re.match(rb"standard input: [a-z ]+ blur, about", done.stdout)
    assert Path("what/standard_input_kernel.png").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-", "photo.jpg"], "takes one picture"),
        (["photo.jpg", "photo.jpg", "-o", "-"], "takes one picture"),
        ([".", "-o", "-"], "is a folder"),
        (["-", "-o", "somewhere/"], "standard input has no name"),
        (["-", "-o", "."], "standard input has no name"),
        (["photo.jpg", "-o", "-", "--json"], "exclude each other"),
        (["photo.jpg", "-o", "-", "--compare"], "need a result in a file"),
        (["photo.jpg", "--format", "docx"], "is not one of"),
        (["photo.jpg", "-o", "a.png", "--format", "tif"], "name two formats"),
        (["photo.jpg", "--quality", "0"], "1<=x<=100"),
        (["photo.jpg", "--frames", "3:2"], "is not a range"),
        (["photo.jpg", "--frames", "x"], "is not a range"),
        (["photo.jpg", "--format", "mp4"], "no input is one"),
        (["-", "--format", "mp4"], "no input is one"),
        (["clip.mp4", "--format", "png"], "all inputs are clips"),
        (["clip.mp4", "-o", "-"], "a picture, not a clip"),
    ],
)
def test_what_does_not_go_together(
    folder: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = names()
    assert upscale(*arguments) == 2
    assert said in capsys.readouterr().err
    assert names() == before


@needs_posix
@pytest.mark.parametrize("name", ["photo.jpg", "a.gif"])
def test_standard_output_that_takes_nothing(folder: Path, name: str) -> None:
    """Its reader has gone."""
    animation("a.gif")
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "dmsr_cli", "upscale", name, "-o", "-", *MODEL]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False, timeout=300)
    os.close(writing)
    assert done.returncode == 1
    assert done.stderr.decode().endswith("error: cannot write standard output: Broken pipe\n")


@needs_posix
@pytest.mark.parametrize(
    ("redirection", "status", "said"),
    [("<&-", 1, "cannot read standard input: it is closed"), (">&-", 2, "output is closed")],
)
def test_closed_pipes(folder: Path, redirection: str, status: int, said: str) -> None:
    command = f'"$0" -m dmsr_cli upscale - {" ".join(MODEL)} {redirection}'
    done = subprocess.run(
        ["sh", "-c", command, sys.executable], capture_output=True, check=False, timeout=300
    )
    assert done.returncode == status
    assert said in done.stderr.decode()
    assert "internal" not in done.stderr.decode()


def test_a_pipe_with_too_much_in_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("dmsr_cli.images.reading.MAX_STREAM_BYTES", 2**20)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(bytes(2**20 + 1))))
    assert upscale("-", "-o", "a.png") == 1
    assert "cannot read standard input: it has more than 1048576" in capsys.readouterr().err


@needs_posix
def test_a_terminal_gets_no_picture(folder: Path) -> None:
    import pty

    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "dmsr_cli", "upscale", "photo.jpg", "-o", "-", *MODEL]
    done = subprocess.run(command, stdout=theirs, stderr=subprocess.PIPE, check=False, timeout=300)
    os.close(theirs)
    os.close(ours)
    assert done.returncode == 2
    assert b"a picture is no text for a terminal" in done.stderr


# Formats and metadata


def test_the_camera_stays_and_the_turn_is_done_once(folder: Path) -> None:
    assert upscale("photo.jpg") == 0
    result = opened("photo_x2.jpg")
    assert result.size == (18, 24)
    assert result.getexif()[0x010F] == "Camera"
    assert result.getexif().get(0x0112, 1) == 1
    assert result.info["dpi"] == (300, 300)


def test_a_batch_in_another_format(folder: Path) -> None:
    PIL.Image.open("photo.jpg").save("other.png")
    assert upscale("photo.jpg", "other.png", "--format", "webp") == 0
    assert [opened(f"{name}_x2.webp").format for name in ("photo", "other")] == ["WEBP"] * 2


def test_quality(folder: Path) -> None:
    sizes = []
    for quality in (20, 95):
        assert upscale("photo.jpg", "--quality", quality, "--overwrite") == 0
        sizes.append(Path("photo_x2.jpg").stat().st_size)
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_provenance(folder: Path, suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    import hashlib

    assert upscale("photo.jpg", "--format", suffix, "--kernel-width", 1.5, "--json") == 0
    record = json.loads(capsys.readouterr().out)
    note = read_provenance(f"photo_x2.{suffix}")
    assert note is not None
    assert (note.version, note.scale, note.kernel_width) == (__version__, 2, 1.5)
    assert (note.model, note.noise_level) == (record["model"], record["noise_level"])
    assert note.sha256 == hashlib.sha256(Path("tiny.safetensors").read_bytes()).hexdigest()
    assert upscale("photo.jpg", "--format", suffix, "--no-provenance", "--overwrite") == 0
    assert read_provenance(f"photo_x2.{suffix}") is None
    assert opened(f"photo_x2.{suffix}").getexif()[0x010F] == "Camera"


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_strip(folder: Path, suffix: str) -> None:
    assert upscale("photo.jpg", "--format", suffix, "--strip") == 0
    result = opened(f"photo_x2.{suffix}")
    assert result.size == (18, 24)
    assert 0x010F not in result.getexif()
    assert read_provenance(f"photo_x2.{suffix}") is None
    assert result.info.get("dpi", (96, 96))[0] != 300


def test_damaged_metadata_are_a_warning(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    PIL.Image.open("photo.jpg").save("odd.png", icc_profile=b"no profile at all" * 20)
    assert upscale("odd.png", "--json") == 0
    output = capsys.readouterr()
    (warning,) = json.loads(output.out)["warnings"]
    assert "profile" in warning
    assert "warning" not in output.err
    assert upscale("odd.png", "--overwrite") == 0
    assert f"dmsr: warning: odd.png: {warning}" in capsys.readouterr().err
    assert opened("odd_x2.png").size == (24, 18)


def test_sixteen_bits_come_out_of_the_network(folder: Path) -> None:
    ramp = np.linspace(20_000, 24_000, 24 * 16 * 3).astype(np.uint16).reshape(16, 24, 3)
    Path("deep.png").write_bytes(imagecodecs.png_encode(ramp))
    assert upscale("deep.png") == 0
    stored = imagecodecs.imread("deep_x2.png")
    assert (stored.dtype, stored.shape) == (np.uint16, (32, 48, 3))
    assert len(np.unique(stored)) > 500
    assert upscale("deep.png", "-s", 1.5) == 0
    assert imagecodecs.imread("deep_x1.5.png").dtype == np.uint16
    assert upscale("deep.png", "--format", "jpg") == 0


def test_invisible_colour_leaves_no_trace(folder: Path) -> None:
    """Whatever stands under full transparency, the result looks the same on any background."""
    opacity = np.zeros((24, 24), np.uint8)
    opacity[6:18, 6:18] = 255
    shown = []
    for name, hidden in (("black", 0), ("white", 255)):
        pixels = np.where(opacity[..., None] > 0, np.uint8([200, 60, 30]), np.uint8(hidden))
        PIL.Image.fromarray(np.dstack([pixels, opacity])).save(f"{name}.png")
        assert upscale(f"{name}.png") == 0
        backdrop = PIL.Image.new("RGBA", (48, 48), "grey")
        shown.append(np.asarray(PIL.Image.alpha_composite(backdrop, opened(f"{name}_x2.png"))))
    assert np.abs(shown[0].astype(int) - shown[1]).max() <= 1


# Frames


@pytest.mark.parametrize("suffix", ["gif", "png", "webp"])
def test_an_animation_keeps_its_timing(
    folder: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    animation(f"a.{suffix}")
    assert upscale(f"a.{suffix}", "--json") == 0
    assert json.loads(capsys.readouterr().out)["frames"] == 3
    with PIL.Image.open(f"a_x2.{suffix}") as picture:
        assert (picture.size, picture.n_frames, picture.info["loop"]) == ((24, 18), 3, 0)
        durations = []
        for number in range(3):
            picture.seek(number)
            picture.load()
            durations.append(picture.info["duration"])
    assert durations == [100, 200, 300]
    note = read_provenance(f"a_x2.{suffix}")
    assert note is not None or suffix == "gif"


def test_frames_share_the_kernel(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    animation("a.gif", (50, 50, 50, 50))
    kernels: list[bytes] = []
    noise_maps: list[bytes] = []
    original = pipeline.upscale

    def noted(image, model, guide, *arguments, **options):
        kernels.append(guide.kernel.tobytes())
        noise_maps.append(guide.noise_map.tobytes())
        return original(image, model, guide, *arguments, **options)

    monkeypatch.setattr(pipeline, "upscale", noted)
    for every, changes in (([], 1), (["--estimate-every", 2], 2), (["--estimate-every", 1], 4)):
        kernels.clear()
        noise_maps.clear()
        assert upscale("a.gif", *every, "--overwrite") == 0
        assert len(kernels) == 4
        assert len(set(kernels)) == changes
        assert len(set(noise_maps)) == 4


def test_a_choice_of_frames(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    animation("a.gif")
    assert upscale("a.gif", "--frames", "1:") == 0
    assert PIL.Image.open("a_x2.gif").n_frames == 2
    assert upscale("a.gif", "--frames", "2:3", "-o", "still.jpg") == 0
    assert opened("still.jpg").size == (24, 18)
    assert upscale("a.gif", "--frames", "3:", "--overwrite") == 1
    assert "none from 3 on" in capsys.readouterr().err
    assert upscale("a.gif", "-o", "moving.jpg") == 1
    assert not Path("moving.jpg").exists()


def test_pages_keep_their_sizes(folder: Path) -> None:
    first = PIL.Image.open("photo.jpg")
    first.save("a.tif", save_all=True, append_images=[first.resize((20, 10))])
    assert upscale("a.tif", "--compare", "--save-degradation") == 0
    with PIL.Image.open("a_x2.tif") as picture:
        sizes = []
        for number in range(picture.n_frames):
            picture.seek(number)
            sizes.append(picture.size)
    assert sizes == [(24, 18), (40, 20)]
    assert opened("a_x2_compare.png").size == (52, 18)


def pages(*kinds: str) -> None:
    """a.tif: a page of 12 x 9 of each type of numbers, with XMP and a resolution."""
    ramp = np.linspace(0, 1, 9 * 12 * 3).reshape(9, 12, 3)
    packet = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'
    with tifffile.TiffWriter("a.tif") as writer:
        for kind in kinds:
            white = 1 if kind.startswith("f") else np.iinfo(kind).max
            writer.write(
                (ramp * white).astype(kind),
                photometric="rgb",
                resolution=(300, 300),
                resolutionunit=2,
                extratags=[(700, 1, len(packet), packet, True)],
            )


def test_pages_keep_their_depths(folder: Path) -> None:
    kinds = ["uint8", "float32", "uint16", "uint8"]
    pages(*kinds)
    assert upscale("a.tif") == 0
    with tifffile.TiffFile("a_x2.tif") as file:
        depths = [page.bitspersample for page in file.pages]
        means = [page.asarray().mean() / (2**page.bitspersample - 1) for page in file.pages]
    assert depths == [8, 16, 16, 8]
    assert means == pytest.approx([0.5] * 4, abs=0.02)


def test_pages_are_stripped(folder: Path) -> None:
    pages("uint8", "uint16", "uint8")
    assert upscale("a.tif", "--strip") == 0
    with tifffile.TiffFile("a_x2.tif") as file:
        for page in file.pages:
            assert page.tags.valueof(700) is None
            assert page.tags.valueof(282) in (None, (1, 1))


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("kind", ["webp", "planes"])
def test_pages_that_pillow_cannot_decode(
    folder: Path, kind: str, number: int, capfd: pytest.CaptureFixture[str]
) -> None:
    colour = np.full((9, 12, 3), (200, 100, 40), np.uint8)
    # Planes of which the opacity, one half, is multiplied into the colours.
    planes = np.stack([*np.moveaxis(colour // 2, 2, 0), np.full((9, 12), 128, np.uint8)])
    with tifffile.TiffWriter("a.tif") as writer:
        for _ in range(number):
            writer.write(colour, photometric="rgb")
        if kind == "webp":
            writer.write(colour, photometric="rgb", compression="webp")
        else:
            layout = {"planarconfig": "separate", "extrasamples": ["assocalpha"]}
            writer.write(planes, photometric="rgb", **layout)
    assert upscale("a.tif") == 0
    assert "WEBP" not in capfd.readouterr().err
    with tifffile.TiffFile("a_x2.tif") as file:
        result = file.pages[number].asarray()
    assert result.shape == (18, 24, 3 if kind == "webp" else 4)
    assert np.abs(result[..., :3].mean((0, 1)) - (200, 100, 40)).max() < 4


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_what_ends_amidst_leaves_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    animation("a.gif")
    calls: list[object] = []
    original = pipeline.upscale

    def fails(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 2:
            raise error
        return original(*arguments, **options)

    monkeypatch.setattr(pipeline, "upscale", fails)
    assert upscale("a.gif") == (INTERRUPTED if error is KeyboardInterrupt else 1)
    assert names() == ["a.gif", "photo.jpg", "tiny.safetensors"]


# Clips


@pytest.fixture
def clip(folder: Path) -> Path:
    """clip.mp4: 6 frames of 24 x 16 at 10 a second."""
    av = pytest.importorskip("av", reason="clips need the extra `video`")
    with av.open("clip.mp4", "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 24, 16, "yuv420p"
        for number in range(6):
            pixels = np.full((16, 24, 3), 40 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return Path("clip.mp4")


def frames_of(path: str) -> list[np.ndarray]:
    import av

    with av.open(path) as container:
        assert container.streams.video[0].average_rate == 10
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_a_clip(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert upscale(clip, "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["frames"], record["width"], record["height"]) == (6, 48, 32)
    frames = frames_of("clip_x2.mp4")
    assert [frame.shape for frame in frames] == [(32, 48, 3)] * 6
    assert upscale(clip, "--frames", "2:4", "--format", "mkv") == 0
    assert len(frames_of("clip_x2.mkv")) == 2
    assert names() == sorted(
        ["clip.mp4", "clip_x2.mkv", "clip_x2.mp4", "photo.jpg", "tiny.safetensors"]
    )


def test_a_clip_stays_a_clip(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert upscale(clip, "-o", "clip.jpg") == 1
    assert "its suffix must be one of" in capsys.readouterr().err
    assert upscale(clip, "photo.jpg", "--format", "webp") == 0
    assert Path("clip_x2.mp4").exists()
    assert Path("photo_x2.webp").exists()


def test_what_is_no_clip(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("text.mp4").write_text("no clip\n" * 100)
    assert upscale("text.mp4") == 1
    error = capsys.readouterr().err
    assert "text.mp4 is not a clip that can be read" in error
    assert "Errno" not in error


def test_an_interrupted_clip_leaves_nothing(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    original = pipeline.upscale

    def fails(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    monkeypatch.setattr(pipeline, "upscale", fails)
    assert upscale(clip) == INTERRUPTED
    assert names() == ["clip.mp4", "photo.jpg", "tiny.safetensors"]


def test_the_estimate_of_a_clip(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", str(clip), *MODEL]) == 0
    assert re.match(r"clip\.mp4: [a-z ]+ blur, about", capsys.readouterr().out)


def test_clips_without_the_extra(
    clip: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    assert upscale(clip) == 1
    assert 'pip install "dmsr-cli[video]"' in capsys.readouterr().err
