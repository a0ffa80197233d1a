"""Writing stills: what goes in comes out; opacity planes, folders, imports."""

import io
import os
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
from PIL import ExifTags

from dmsr_cli.errors import SettingsError
from dmsr_cli.images import (
    FORMATS,
    LUMA_WEIGHTS,
    READABLE_SUFFIXES,
    Image,
    find_images,
    planes,
    read_image,
    resize_alpha,
    write_image,
)
from dmsr_cli.images.formats import prepare
from pictures import (
    GREY_PROFILE,
    LOSSLESS,
    SIZES,
    SRGB,
    bytes_of,
    error_of,
    noise,
    save,
    smooth,
)


@pytest.fixture
def metadata_of_all_kinds() -> dict[str, object]:
    exif = PIL.Image.Exif()
    exif[305] = "Camera 1.0"
    details = exif.get_ifd(ExifTags.IFD.Exif)
    details.update({0xA002: 5, 0xA003: 7, 0x829A: 0.01})
    return {"exif": exif.tobytes(), "xmp": b"<x:xmpmeta/>", "dpi": (300, 200)}


# Writing


@pytest.mark.parametrize("suffix", LOSSLESS)
@pytest.mark.parametrize("size", SIZES)
def test_lossless_round_trip(tmp_path, suffix, size):
    array = noise(*size, 3)
    path = tmp_path / f"a{suffix}"
    write_image(array / np.float64(255), path)
    image = read_image(path)
    assert np.array_equal(bytes_of(image), array)
    assert not image.grey


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".JPG", ".webp"])
@pytest.mark.parametrize("size", SIZES)
def test_lossy_round_trip_of_any_size(tmp_path, suffix, size):
    path = tmp_path / f"a{suffix}"
    write_image(np.full((*size, 3), 0.6, np.float32), path)
    image = read_image(path)
    assert image.pixels.shape == (*size, 3)
    assert np.abs(image.pixels - 0.6).max() < 0.02


@pytest.mark.parametrize(("suffix", "bound"), [(".jpg", 0.01), (".webp", 0.02)])
def test_lossy_formats_are_close(tmp_path, suffix, bound):
    path = tmp_path / f"a{suffix}"
    write_image(smooth(), path)
    assert np.abs(read_image(path).pixels - smooth()).mean() < bound


def test_quality_changes_the_size(tmp_path):
    array = noise(64, 64, 3) / 255
    for suffix in (".jpg", ".webp"):
        low, high = tmp_path / f"low{suffix}", tmp_path / f"high{suffix}"
        write_image(array, low, quality=50)
        write_image(array, high)
        assert low.stat().st_size < 0.8 * high.stat().st_size


@pytest.mark.parametrize("quality", [0, 101])
def test_impossible_quality(tmp_path, quality):
    with pytest.raises(SettingsError, match="quality must be from 1 to 100"):
        write_image(smooth(), tmp_path / "a.jpg", quality=quality)


def test_jpeg_has_full_chroma(tmp_path):
    write_image(smooth(), tmp_path / "a.jpg")
    with PIL.Image.open(tmp_path / "a.jpg") as picture:
        assert [layer[1:3] for layer in picture.layer] == [(1, 1)] * 3


@pytest.mark.parametrize("suffix", [*LOSSLESS, ".jpg"])
def test_grey_is_stored_as_one_channel(tmp_path, suffix):
    array = noise(13, 7)
    source = read_image(save(tmp_path / "source.png", array))
    path = tmp_path / f"a{suffix}"
    write_image(source, path)
    with PIL.Image.open(path) as picture:
        assert picture.mode == "L"
    image = read_image(path)
    assert image.grey
    if suffix != ".jpg":
        assert np.array_equal(bytes_of(image)[..., 0], array)


def test_grey_is_the_luma_of_the_pixels(tmp_path):
    pixels = noise(13, 7, 3) / np.float32(255)
    write_image(Image(pixels, grey=True), tmp_path / "a.png")
    expected = np.asarray(PIL.Image.fromarray(noise(13, 7, 3)).convert("L"), dtype=int)
    stored = bytes_of(read_image(tmp_path / "a.png"))[..., 0]
    assert np.abs(stored - expected).max() <= 1


def test_a_plane_is_a_grey_picture(tmp_path):
    write_image(noise(13, 7) / 255, tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image.grey
    assert np.array_equal(bytes_of(image)[..., 0], noise(13, 7))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
@pytest.mark.parametrize("grey", [False, True])
def test_alpha_round_trip(tmp_path, suffix, grey):
    alpha = noise(13, 7, seed=1) / np.float32(255)
    image = Image(np.full((13, 7, 3), 0.6, np.float32), alpha, grey)
    write_image(image, tmp_path / f"a{suffix}")
    again = read_image(tmp_path / f"a{suffix}")
    assert np.array_equal(again.alpha, alpha)
    assert again.grey == (grey and suffix != ".webp")
    visible = alpha > 0.1
    assert np.abs(again.pixels - 0.6)[visible].max() < 0.03


@pytest.mark.parametrize("suffix", [".jpg", ".bmp"])
@pytest.mark.parametrize("grey", [False, True])
def test_formats_without_alpha_show_the_picture_over_white(tmp_path, suffix, grey):
    alpha = np.repeat(np.float32([0, 0.5, 1]), 16)[None].repeat(16, axis=0)
    write_image(Image(np.zeros((16, 48, 3), np.float32), alpha, grey), tmp_path / f"a{suffix}")
    image = read_image(tmp_path / f"a{suffix}")
    assert image.alpha is None
    assert image.grey == grey
    assert image.pixels[8, [8, 24, 40], 1] == pytest.approx([1, 0.5, 0], abs=0.02)


def test_values_are_clipped_and_rounded(tmp_path):
    values = np.array([[-3, -0.001, 0.4 / 255, 0.6 / 255, 254.6 / 255, 1.001, 70]])
    before = values.copy()
    write_image(values, tmp_path / "a.png")
    stored = bytes_of(read_image(tmp_path / "a.png"))[0, :, 0]
    assert stored.tolist() == [0, 0, 0, 1, 255, 255, 255]
    assert np.array_equal(values, before)


def stored_at_once(image: Image, keeps_alpha: bool, single_channel: bool) -> np.ndarray:
    """What a file of a float picture holds, by the formulas, without strips."""
    pixels = image.pixels.astype(np.float32).clip(0, 1)
    alpha = None if image.alpha is None else image.alpha.astype(np.float32).clip(0, 1)[..., None]
    if alpha is not None and not keeps_alpha:
        pixels, alpha = pixels * alpha + (1 - alpha), None
    if image.grey:
        luma = (pixels @ LUMA_WEIGHTS)[..., None]
        pixels = luma if single_channel else np.repeat(luma, 3, axis=2)
    planes = pixels if alpha is None else np.concatenate([pixels, alpha], axis=2)
    stored = np.rint(planes * 255).astype(np.uint8)
    return stored[..., 0] if stored.shape[2] == 1 else stored


@pytest.fixture(params=[1, 100, 2**18])
def strip_pixels(request, monkeypatch):
    monkeypatch.setattr(planes, "STRIP_PIXELS", request.param)


@pytest.mark.usefixtures("strip_pixels")
@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("transparent", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_strips_change_no_byte(tmp_path, suffix, grey, transparent, dtype):
    random = np.random.default_rng(5)
    pixels = random.uniform(-0.2, 1.2, (37, 23, 3)).astype(dtype)
    alpha = random.uniform(-0.2, 1.2, (37, 23)).astype(dtype) if transparent else None
    for order in ("C", "F"):
        image = Image(np.asarray(pixels, order=order), alpha, grey)
        write_image(image, tmp_path / f"a{suffix}")
        with PIL.Image.open(tmp_path / f"a{suffix}") as picture:
            stored = np.asarray(picture)
        assert np.array_equal(stored, stored_at_once(image, suffix != ".bmp", grey))


@pytest.mark.usefixtures("strip_pixels")
@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".jpg", ".webp"])
@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("transparent", [False, True])
def test_eight_bit_is_written_as_its_float_picture(tmp_path, suffix, grey, transparent):
    pixels, alpha = noise(37, 23, 3), noise(37, 23, seed=1) if transparent else None
    as_float = None if alpha is None else alpha / np.float32(255)
    write_image(Image(pixels / np.float32(255), as_float, grey), tmp_path / f"float{suffix}")
    expected = (tmp_path / f"float{suffix}").read_bytes()
    for number, opacity in enumerate((alpha, as_float)):  # the types may differ
        before = pixels.copy()
        write_image(Image(pixels, opacity, grey), tmp_path / f"{number}{suffix}")
        assert (tmp_path / f"{number}{suffix}").read_bytes() == expected
        assert np.array_equal(pixels, before)


def test_arrays_of_eight_bit(tmp_path):
    for array in (noise(13, 7, 3), noise(13, 7), noise(26, 14, 3)[::2, ::2]):
        write_image(array, tmp_path / "a.png")
        with PIL.Image.open(tmp_path / "a.png") as picture:
            assert np.array_equal(np.asarray(picture), array)


@pytest.mark.parametrize("dtype", [np.uint16, ">u2"])
def test_sixteen_bit_is_rounded_to_eight_in_a_picture_of_that_depth(tmp_path, dtype):
    array = np.arange(65_536).reshape(256, 256).astype(dtype)
    colour = np.repeat(array[..., None], 3, axis=2)
    expected = np.rint(array / 257).astype(np.uint8)
    for image in (Image(colour), Image(colour, array), Image(colour, array, grey=True)):
        write_image(image, tmp_path / "a.png")
        with PIL.Image.open(tmp_path / "a.png") as picture:
            for channel in picture.split():
                assert np.array_equal(np.asarray(channel), expected)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_profile_is_carried_if_it_fits_the_channels(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_image(Image(smooth(), icc_profile=SRGB), path)
    assert read_image(path).icc_profile == SRGB
    write_image(Image(smooth(), icc_profile=GREY_PROFILE), path)
    assert read_image(path).icc_profile is None
    write_image(Image(smooth(), grey=True, icc_profile=GREY_PROFILE), path)
    assert read_image(path).icc_profile == (None if suffix == ".webp" else GREY_PROFILE)
    write_image(Image(smooth(), grey=True, icc_profile=SRGB), path)
    assert read_image(path).icc_profile == (SRGB if suffix == ".webp" else None)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp"])
def test_resolution_is_carried(tmp_path, suffix):
    write_image(Image(smooth(), dpi=(300, 200)), tmp_path / f"a{suffix}")
    assert read_image(tmp_path / f"a{suffix}").dpi == pytest.approx((300, 200), abs=0.05)
    write_image(smooth(), tmp_path / f"b{suffix}")
    assert read_image(tmp_path / f"b{suffix}").dpi in (None, pytest.approx((96, 96), abs=0.1))


def test_metadata_can_be_left_out(tmp_path, metadata_of_all_kinds):
    image = Image(smooth(), icc_profile=SRGB, **metadata_of_all_kinds)
    for suffix in (".png", ".jpg", ".webp", ".tif"):
        write_image(image, tmp_path / f"a{suffix}", metadata=False)
        with PIL.Image.open(tmp_path / f"a{suffix}") as picture:
            assert picture.info.get("icc_profile") == SRGB
            assert not {"exif", "xmp", "dpi"} & set(picture.info)
            assert not set(picture.getexif()) & {305, 34_665}


def test_the_size_in_exif_is_that_of_the_result(tmp_path, metadata_of_all_kinds):
    write_image(Image(smooth(30, 20), **metadata_of_all_kinds), tmp_path / "a.jpg")
    with PIL.Image.open(tmp_path / "a.jpg") as picture:
        details = picture.getexif().get_ifd(ExifTags.IFD.Exif)
    assert (details[0xA002], details[0xA003]) == (20, 30)
    assert details[0x829A] == 0.01


def test_exif_without_a_size_gets_none_and_no_other_byte(tmp_path):
    exif = PIL.Image.Exif()
    exif[305] = "Camera 1.0"
    block = exif.tobytes()
    write_image(Image(smooth(), exif=block), tmp_path / "a.jpg")
    assert block in (tmp_path / "a.jpg").read_bytes()


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".avif"])
def test_broken_exif_does_not_spoil_the_picture(tmp_path, suffix):
    broken = [b"Exif\0\0", b"Exif\0\0MM\0*\0\0\xff\xff", b"Exif\0\0rubbish" * 9]
    for block in broken:
        write_image(Image(smooth(), exif=block), tmp_path / f"a{suffix}")
        with PIL.Image.open(tmp_path / f"a{suffix}") as picture:
            assert picture.size == (56, 40)
            assert not picture.getexif().get_ifd(ExifTags.IFD.Exif)


def test_xmp_too_large_for_jpeg_is_left_out(tmp_path):
    for size, fits in ((65_504, True), (65_505, False)):
        write_image(Image(smooth(), xmp=b"x" * size), tmp_path / "a.jpg")
        with PIL.Image.open(tmp_path / "a.jpg") as picture:
            assert ("xmp" in picture.info) == fits


# Targets


@pytest.mark.parametrize(
    ("name", "kind"),
    [("jpeg", "JPEG"), ("jpg", "JPEG"), ("TIF", "TIFF"), ("png", "PNG"), ("jp2", "JPEG2000")],
)
def test_a_format_overrides_the_suffix(tmp_path, name, kind):
    for target in (tmp_path / "a.bmp", str(tmp_path / "no_suffix")):
        write_image(smooth(), target, format=name)
        with PIL.Image.open(target) as picture:
            assert picture.format == kind


def test_a_stream_gets_the_bytes_of_the_file(tmp_path):
    for name in ("png", "jpg", "tif"):
        stream = io.BytesIO()
        write_image(smooth(), stream, format=name)
        write_image(smooth(), tmp_path / f"a.{name}")
        assert stream.getvalue() == (tmp_path / f"a.{name}").read_bytes()


def test_exif_too_large_for_jpeg_is_left_out(tmp_path):
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\0" + bytes(70_000)
    write_image(Image(smooth(), exif=exif), tmp_path / "a.jpg")
    assert read_image(tmp_path / "a.jpg").exif is None


@pytest.mark.parametrize("suffix", sorted(READABLE_SUFFIXES))
def test_every_readable_suffix_is_a_format_that_works(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    mode = {".pgm": "L", ".pbm": "1"}.get(suffix, "RGB")
    prepare(FORMATS["HEIF"])
    PIL.Image.new(mode, (20, 16), "white").save(path)
    image = read_image(path)
    assert image.pixels.shape == (16, 20, 3)
    assert image.pixels.min() > 0.98
    assert image.format in FORMATS


def test_a_picture_with_the_wrong_suffix_is_read(tmp_path):
    save(tmp_path / "a.jpg", noise(5, 4, 3), format="PNG")
    assert read_image(tmp_path / "a.jpg").format == "PNG"


# Alpha, folders, imports


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("size", SIZES)
def test_resized_alpha(scale, size):
    alpha = noise(*size) / np.float32(255)
    resized = resize_alpha(alpha, scale)
    assert resized.shape == (size[0] * scale, size[1] * scale)
    assert resized.dtype == np.float32
    assert 0 <= resized.min() <= resized.max() <= 1


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_constant_alpha_stays_constant(scale):
    for value in np.arange(256, dtype=np.float32) / np.float32(255):
        assert (resize_alpha(np.full((5, 7), value, np.float32), scale) == value).all()


def test_resized_alpha_has_no_seams(monkeypatch):
    alpha = noise(37, 23) / np.float32(255)
    for scale in (1, 2, 3, 4):
        whole = resize_alpha(alpha, scale)
        monkeypatch.setattr(planes, "STRIP_PIXELS", 23 * scale * scale * 5)
        assert np.abs(resize_alpha(alpha, scale) - whole).max() <= 2**-22
        monkeypatch.undo()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, ">u2"])
def test_resized_alpha_keeps_whole_numbers(dtype):
    white = np.iinfo(dtype).max
    alpha = np.random.default_rng(2).integers(0, white + 1, (13, 7)).astype(dtype)
    resized = resize_alpha(alpha, 3)
    assert resized.dtype == alpha.dtype
    expected = resize_alpha(alpha.astype(np.float32) / np.float32(white), 3)
    assert np.array_equal(resized, np.rint(expected * white))
    assert (resize_alpha(np.full((5, 7), white, dtype), 4) == white).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_resized_alpha_takes_the_type_that_is_wanted(dtype):
    alpha = noise(13, 7) / np.float32(255)
    resized = resize_alpha(alpha, 4, dtype)
    assert resized.dtype == dtype
    white = np.iinfo(dtype).max
    assert np.array_equal(resized, np.rint(resize_alpha(alpha, 4) * white))
    assert (resize_alpha(np.ones((5, 7), np.float32), 3, dtype) == white).all()


def test_resized_alpha_follows_the_edge():
    alpha = np.zeros((8, 8), np.float32)
    alpha[:, 4:] = 1
    resized = resize_alpha(alpha, 4)
    assert (resized[:, :12] < 0.01).all()
    assert (resized[:, 20:] > 0.99).all()
    assert resized.mean() == pytest.approx(0.5, abs=0.001)


def test_find_images(tmp_path):
    names = ["b.PNG", "a.jpg", "c.txt", ".d.png", "sub/e.webp", ".hidden/f.png", "sub/x/g.tiff"]
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "folder.png").mkdir()
    flat = ["a.jpg", "b.PNG"]
    assert find_images(tmp_path, recursive=False) == [tmp_path / name for name in flat]
    deep = ["a.jpg", "b.PNG", "sub/e.webp", "sub/x/g.tiff"]
    assert find_images(tmp_path, recursive=True) == [tmp_path / name for name in deep]


def test_find_images_in_what_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    for name in ("missing", "file"):
        message = error_of(find_images, tmp_path / name)
        assert message.startswith("cannot list the folder")


def test_importing_needs_no_torch():
    code = "import sys, dmsr_cli.images; sys.exit('torch' in sys.modules)"
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such files")
def test_jpeg_is_encoded_beside_other_threads(monkeypatch):
    """Pillow lets them go on where it has the number of a file."""
    numbers = []
    save = PIL.Image.Image.save

    def note(self, file, **options):
        numbers.append(file.fileno())
        save(self, file, **options)

    monkeypatch.setattr(PIL.Image.Image, "save", note)
    result = io.BytesIO()
    write_image(np.zeros((8, 9, 3), np.uint8), result, format="jpg")
    assert PIL.Image.open(result).size == (9, 8)
    (number,) = numbers
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(number)
