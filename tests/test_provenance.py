"""The provenance note: written into what can hold it, and read back."""

import dataclasses
import json

import PIL.Image
import pytest
from PIL import ExifTags

from dmsr_cli import pipeline, weights
from dmsr_cli.errors import ImageError, WeightsError
from dmsr_cli.images import FORMATS, Image, Provenance, read_provenance, write_image
from dmsr_cli.images.provenance import PROCESSING_SOFTWARE, parse_note
from pictures import noise, save, smooth
from tiny_weights import tiny_content

NOTE = Provenance("0.1.0", "dmsr-lite-x4", "ab" * 32, 4, 1.3, 15.25)
HOLDS_IT = [known.suffixes[0] for known in FORMATS.values() if known.exif or known.comment]


def camera_block() -> bytes:
    exif = PIL.Image.Exif()
    exif[ExifTags.Base.Software] = "Camera 1.0"
    exif.get_ifd(ExifTags.IFD.Exif)[0x829A] = 0.01
    return exif.tobytes()


@pytest.mark.parametrize("suffix", HOLDS_IT)
@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("transparent", [False, True])
@pytest.mark.parametrize("depth", [8, 16])
def test_round_trip(tmp_path, suffix, grey, transparent, depth):
    alpha = smooth()[..., 0] if transparent else None
    image = Image(smooth(), alpha, grey, depth=depth)
    path = tmp_path / f"a{suffix}"
    write_image(image, path)
    assert read_provenance(path) is None
    write_image(image, path, provenance=NOTE)
    assert read_provenance(path) == NOTE


@pytest.mark.parametrize("suffix", [".bmp", ".ppm"])
def test_formats_without_a_place_get_none(tmp_path, suffix):
    write_image(smooth(), tmp_path / f"a{suffix}", provenance=NOTE)
    write_image(smooth(), tmp_path / f"b{suffix}")
    assert read_provenance(tmp_path / f"a{suffix}") is None
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_it_joins_what_the_camera_wrote(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    image = Image(smooth(), exif=camera_block(), xmp=b"<x/>", dpi=(300, 200))
    write_image(image, path, provenance=NOTE)
    with PIL.Image.open(path) as picture:
        assert picture.getexif()[ExifTags.Base.Software] == "Camera 1.0"
        assert picture.getexif().get_ifd(ExifTags.IFD.Exif)[0x829A] == 0.01
        assert json.loads(picture.getexif()[PROCESSING_SOFTWARE])["model"] == "dmsr-lite-x4"
    assert read_provenance(path) == NOTE


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_it_is_all_there_is_without_metadata(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    image = Image(smooth(), exif=camera_block(), xmp=b"<x/>", dpi=(300, 200))
    write_image(image, path, metadata=False, provenance=NOTE)
    assert read_provenance(path) == NOTE
    with PIL.Image.open(path) as picture:
        assert ExifTags.Base.Software not in picture.getexif()
        assert not picture.getexif().get_ifd(ExifTags.IFD.Exif)
        assert "xmp" not in picture.info
        assert picture.info.get("dpi") in (None, (72, 72))  # what Pillow says if nothing does


def test_it_replaces_an_older_one(tmp_path):
    exif = PIL.Image.Exif()
    exif[PROCESSING_SOFTWARE] = dataclasses.replace(NOTE, version="0.0.1").note()
    write_image(Image(smooth(), exif=exif.tobytes()), tmp_path / "a.png", provenance=NOTE)
    assert read_provenance(tmp_path / "a.png") == NOTE


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(
    "block", [b"Exif\0\0rubbish", b"Exif\0\0MM\0*\0\0\0\x08\0\x01" + bytes(70_000)]
)
def test_it_takes_the_place_of_exif_that_cannot_be_kept(tmp_path, block):
    write_image(Image(smooth(), exif=block), tmp_path / "a.jpg", provenance=NOTE)
    assert read_provenance(tmp_path / "a.jpg") == NOTE


def test_exif_too_large_for_jpeg_leaves_the_note(tmp_path):
    exif = PIL.Image.Exif()
    exif[ExifTags.Base.ImageDescription] = "x" * 70_000
    write_image(Image(smooth(), exif=exif.tobytes()), tmp_path / "a.jpg", provenance=NOTE)
    assert read_provenance(tmp_path / "a.jpg") == NOTE


def test_notes_with_and_without_digests(tmp_path):
    old = '{"tool": "dmsr", "version": "0.1.0", "model": "m", "sha256": "ab", "scale": 4, '
    old += '"kernel_width": 1.3, "noise_level": 15.25}'
    assert parse_note(old) == Provenance("0.1.0", "m", "ab", 4, 1.3, 15.25)
    assert parse_note(old).note() == old
    digests = dataclasses.replace(NOTE, settings="cd" * 32, source="ef" * 32)
    write_image(smooth(), tmp_path / "a.png", provenance=digests)
    assert read_provenance(tmp_path / "a.png") == digests


def test_the_note_is_one_line():
    note = dataclasses.replace(NOTE, model="naïve\nmodel")
    assert note.note().isascii()
    assert "\n" not in note.note()
    assert parse_note(note.note()) == note


@pytest.mark.parametrize(
    "text",
    [
        *("", "dmsr", "[]", "3", "null", "{}", '{"tool": "dmsr"}', "[" * 100_000),
        json.dumps({**json.loads(NOTE.note()), "tool": "other"}),
        json.dumps({**json.loads(NOTE.note()), "more": 1}),
        json.dumps({**json.loads(NOTE.note()), "scale": "4"}),
        json.dumps({**json.loads(NOTE.note()), "scale": True}),
        json.dumps({**json.loads(NOTE.note()), "model": 4}),
        json.dumps({**json.loads(NOTE.note()), "noise_level": float("nan")}),
    ],
)
def test_other_texts_are_no_notes(tmp_path, text):
    assert parse_note(text) is None
    picture = PIL.Image.fromarray(noise(5, 4, 3))
    exif = PIL.Image.Exif()
    exif[PROCESSING_SOFTWARE] = text[:1000]
    picture.save(tmp_path / "a.jpg", exif=exif, comment=text[:1000])
    assert read_provenance(tmp_path / "a.jpg") is None


def test_files_that_are_no_pictures(tmp_path):
    (tmp_path / "a.png").write_text("not pixels\n" * 50)
    for name in ("a.png", "missing.png"):
        with pytest.raises(ImageError, match=name) as caught:
            read_provenance(tmp_path / name)
        assert "\n" not in str(caught.value)
    assert read_provenance(save(tmp_path / "b.png", noise(5, 4, 3))) is None


def test_a_model_knows_the_hash_of_its_weights(tmp_path):
    path = tmp_path / "tiny.safetensors"
    path.write_bytes(tiny_content())
    sha256 = weights.file_sha256(path)
    assert pipeline.load_model(str(path), "cpu").sha256 == sha256
    assert weights.load_hashed_weights(path, sha256)[1] == sha256
    with pytest.raises(WeightsError, match="is damaged or was changed"):
        weights.load_hashed_weights(path, "0" * 64)
