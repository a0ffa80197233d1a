"""What comes with the pixels: orientation, EXIF, XMP, resolution and colour profile."""

import io
import struct
from pathlib import Path

import imagecodecs
import numpy as np
import PIL.Image
import pytest
from PIL import ExifTags, ImageCms, features
from PIL.TiffImagePlugin import IFDRational

from dmsr_cli.images import colour, read_image
from pictures import GREY_PROFILE, SRGB, bytes_of, noise, save, smooth, stored_by_a_camera
from test_images_deep import deep_noise, deep_png, levels, needs_avif, png_chunk, save_tiff
from test_images_read import cmyk_profile, needs_littlecms

LOSSLESS_OPTIONS = {".webp": {"lossless": True}, ".avif": {"quality": 100, "subsampling": "4:4:4"}}
CONTAINERS = [".png", ".jpg", ".webp", ".tif", pytest.param(".avif", marks=needs_avif)]

# Orientation


def exif_with(orientation: int | None = None, **named) -> PIL.Image.Exif:
    exif = PIL.Image.Exif()
    if orientation is not None:
        exif[ExifTags.Base.Orientation] = orientation
    for name, value in named.items():
        exif[ExifTags.Base[name]] = value
    return exif


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", pytest.param(".avif", marks=needs_avif)])
def test_orientation_where_pixels_are_only_nearly_kept(tmp_path, orientation, suffix):
    upright = np.rint(smooth(48, 64) * 255).astype(np.uint8)
    options = LOSSLESS_OPTIONS.get(suffix, {"quality": 100, "subsampling": 0})
    stored = stored_by_a_camera(upright, orientation)
    path = save(tmp_path / f"a{suffix}", stored, exif=exif_with(orientation).tobytes(), **options)
    image = read_image(path)
    assert image.pixels.shape == upright.shape
    assert np.abs(bytes_of(image).astype(int) - upright).max() <= 8
    assert image.exif is None


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("alpha", [False, True])
def test_orientation_of_a_deep_png(tmp_path, orientation, alpha):
    upright = deep_noise(6, 9, 4 if alpha else 3)
    block = png_chunk(b"eXIf", exif_with(orientation).tobytes()[6:])
    path = tmp_path / "a.png"
    path.write_bytes(deep_png(stored_by_a_camera(upright, orientation), block))
    image = read_image(path)
    assert np.array_equal(levels(image.pixels), upright[..., :3])
    assert not alpha or np.array_equal(levels(image.alpha), upright[..., 3])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_orientation_of_a_tiff(tmp_path, orientation, kind, compression):
    upright = (noise(6, 9, 3) / 255).astype(kind) if kind is np.float32 else noise(6, 9, 3)
    tag = (274, 3, 1, orientation, True)
    stored = stored_by_a_camera(upright.astype(kind), orientation)
    path = save_tiff(tmp_path / "a.tif", stored, compression=compression, extratags=[tag])
    image = read_image(path)
    white = {np.uint8: 255, np.uint16: 65_535, np.float32: 1}[kind]
    assert np.array_equal(np.float32(image.pixels), np.float32(upright) / np.float32(white))


@pytest.mark.parametrize("value", [0, 9, 700])
def test_orientation_that_means_nothing(tmp_path, value):
    array = noise(6, 9, 3)
    image = read_image(save(tmp_path / "a.png", array, exif=exif_with(value).tobytes()))
    assert np.array_equal(bytes_of(image), array)


# XMP


def packet(orientation: int = 1, form: str = "attribute", more: str = "") -> bytes:
    """An XMP packet as cameras write it, with padding."""
    attribute = f' tiff:Orientation="{orientation}"' if form == "attribute" else ""
    element = f"<tiff:Orientation>{orientation}</tiff:Orientation>" if form == "element" else ""
    text = (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/" '
        f'dc:format="image/jpeg"{attribute}>{element}{more}<dc:title>Käse, 6 Pfund</dc:title>'
        f'</rdf:Description></rdf:RDF></x:xmpmeta>{" " * 100}<?xpacket end="w"?>'
    )
    return text.encode()


def with_xmp(folder: Path, suffix: str, xmp: bytes, exif: bytes | None = None) -> Path:
    path = folder / f"a{suffix}"
    array = np.rint(smooth(48, 64) * 255).astype(np.uint8)
    exif_option = {"exif": exif} if exif else {}
    if suffix == ".tif":
        options = {"tiffinfo": {700: xmp}}
    elif suffix == ".png":
        text = b"XML:com.adobe.xmp\0\0\0\0\0" + xmp
        content = io.BytesIO()
        PIL.Image.fromarray(array).save(content, "PNG", **exif_option)
        head, tail = content.getvalue()[:33], content.getvalue()[33:]
        path.write_bytes(head + png_chunk(b"iTXt", text) + tail)
        return path
    else:
        options = {"xmp": xmp} | LOSSLESS_OPTIONS.get(suffix, {})
    return save(path, array, **options, **exif_option)


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_xmp_is_carried_as_it_is(tmp_path, suffix):
    image = read_image(with_xmp(tmp_path, suffix, packet()))
    assert image.xmp == packet()
    assert image.warnings == ()


@pytest.mark.parametrize("kind", [np.uint16, np.float32])
def test_xmp_of_a_deep_tiff(tmp_path, kind):
    tag = (700, 1, None, packet(), True)
    path = save_tiff(tmp_path / "a.tif", smooth().astype(kind), extratags=[tag])
    assert read_image(path).xmp == packet()


@pytest.mark.parametrize("form", ["attribute", "element"])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_orientation_inside_xmp_is_reset_and_nothing_else(tmp_path, suffix, form):
    exif = exif_with(6).tobytes() if suffix != ".tif" else None
    image = read_image(with_xmp(tmp_path, suffix, packet(6, form), exif))
    assert image.pixels.shape == (64, 48, 3)  # turned once, whoever said so
    assert b'Orientation="6"' not in image.xmp
    assert b"Orientation>6" not in image.xmp
    assert "6 Pfund" in image.xmp.decode()
    if suffix != ".tif":  # there Pillow takes it out altogether
        assert image.xmp == packet(1, form)


def test_exif_says_the_orientation_and_not_xmp(tmp_path):
    image = read_image(with_xmp(tmp_path, ".jpg", packet(6), exif_with(1).tobytes()))
    assert image.pixels.shape == (48, 64, 3)
    assert image.xmp == packet(1)


@pytest.mark.parametrize("suffix", CONTAINERS)
@pytest.mark.parametrize("damage", [b"<x:xmpmeta", b"\x00\xff\xfe\x01 no XML at all"])
def test_damaged_xmp_is_left_out(tmp_path, suffix, damage):
    image = read_image(with_xmp(tmp_path, suffix, damage))
    assert image.xmp is None
    assert image.warnings == ("its XMP data are damaged and were left out",)


def test_xmp_that_could_grow_is_left_out(tmp_path):
    bomb = b'<!DOCTYPE x [<!ENTITY a "lol"><!ENTITY b "&a;&a;">]><x>&b;</x>'
    image = read_image(with_xmp(tmp_path, ".jpg", bomb))
    assert image.xmp is None


# EXIF


def full_exif(orientation: int = 6, thumbnail: bool = True) -> bytes:
    """What a camera writes: tags, exposure, maker note, position, interoperability, thumbnail."""
    exif = exif_with(orientation, Make="Maker", Artist="Jörg".encode(), XResolution=240.0)
    exif[0x8769] = {
        0x9000: b"0232",
        0x829A: IFDRational(1, 250),
        0x9204: IFDRational(-1, 3),
        0x927C: b"a note of the maker\0" + bytes(range(256)),
        0x9286: b"ASCII\0\0\0comment",
        0xA002: 64,
        0xA003: 48,
        0xA005: {1: "R98"},
    }
    exif[0x8825] = {1: "N", 2: (IFDRational(52), IFDRational(30), IFDRational(1234, 100))}
    block = bytearray(exif.tobytes())
    # Where the first directory ends stands where the next one is: the thumbnail's.
    count = struct.unpack_from(">H", block, 14)[0]
    end = 16 + 12 * count
    if thumbnail:
        struct.pack_into(">I", block, end, len(block) - 6)
        picture = io.BytesIO()
        PIL.Image.new("RGB", (8, 8), "red").save(picture, "JPEG")
        start = len(block) - 6 + 2 + 3 * 12 + 4
        entries = [(259, 3, 1, 6 << 16), (513, 4, 1, start), (514, 4, 1, len(picture.getvalue()))]
        block += struct.pack(">H", 3) + b"".join(struct.pack(">HHII", *e) for e in entries)
        block += bytes(4) + picture.getvalue()
    return bytes(block)


def test_the_sample_has_a_thumbnail():
    exif = PIL.Image.Exif()
    exif.load(full_exif())
    assert exif.get_ifd(ExifTags.IFD.IFD1)[514] > 100


@pytest.mark.parametrize(
    "suffix", [".png", ".jpg", ".webp", pytest.param(".avif", marks=needs_avif)]
)
def test_exif_without_orientation_and_thumbnail(tmp_path, suffix):
    image = read_image(save(tmp_path / f"a{suffix}", noise(48, 64, 3), exif=full_exif()))
    assert image.pixels.shape == (64, 48, 3)
    assert image.warnings == ()
    assert image.exif.startswith(b"Exif\0\0")
    assert b"JFIF" not in image.exif
    exif = PIL.Image.Exif()
    exif.load(image.exif)
    assert set(exif) == {0x010F, 0x011A, 0x013B, 0x8769, 0x8825}
    assert exif.get_ifd(ExifTags.IFD.IFD1) == {}
    assert exif[0x010F] == "Maker"
    name = exif[0x013B].encode("latin-1")
    assert name == "Jörg".encode() or suffix == ".avif"  # which Pillow itself changed on writing
    details = exif.get_ifd(0x8769)
    assert set(details) == {0x9000, 0x829A, 0x9204, 0x927C, 0x9286, 0xA002, 0xA003, 0xA005}
    assert details[0x829A] == pytest.approx(1 / 250)
    assert details[0x9204] == pytest.approx(-1 / 3)
    assert details[0x927C] == b"a note of the maker\0" + bytes(range(256))
    assert exif.get_ifd(ExifTags.IFD.Interop) == {1: "R98"}
    assert exif.get_ifd(0x8825)[2] == (52, 30, pytest.approx(12.34))


def test_exif_is_the_same_when_it_is_read_again(tmp_path):
    first = read_image(save(tmp_path / "a.jpg", noise(48, 64, 3), exif=full_exif()))
    second = read_image(save(tmp_path / "b.jpg", noise(48, 64, 3), exif=first.exif))
    assert second.exif == first.exif


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_exif_of_a_tiff(tmp_path, kind):
    tags = [(271, 2, 0, "Maker", True), (315, 2, 0, "Author", True), (274, 3, 1, 6, True)]
    path = save_tiff(tmp_path / "a.tif", smooth().astype(kind), extratags=tags, metadata=None)
    exif = PIL.Image.Exif()
    exif.load(read_image(path).exif)
    described = {tag: value for tag, value in exif.items() if tag not in (282, 283, 296, 305)}
    assert described == {271: "Maker", 315: "Author"}


@pytest.mark.parametrize(
    "block", [b"garbage", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff", b"MM\0*\0\0\0\x08"]
)
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_damaged_exif_is_left_out(tmp_path, block, suffix):
    image = read_image(save(tmp_path / f"a{suffix}", noise(48, 64, 3), exif=b"Exif\0\0" + block))
    assert image.pixels.shape == (48, 64, 3)
    assert image.exif is None
    assert image.warnings == ("its EXIF data are damaged and were left out",)


def test_exif_that_is_cut_short_keeps_what_is_there(tmp_path):
    block = full_exif(thumbnail=False)
    path = save(tmp_path / "a.jpg", noise(48, 64, 3), exif=block[: len(block) // 2])
    image = read_image(path)
    assert image.pixels.shape == (64, 48, 3)
    assert image.warnings == ("its EXIF data are damaged in part and were cut down",)
    exif = PIL.Image.Exif()
    exif.load(image.exif)
    assert exif[0x010F] == "Maker"


# Resolution


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp"])
def test_resolution(tmp_path, suffix):
    path = save(tmp_path / f"a{suffix}", noise(5, 4, 3), dpi=(300, 200))
    assert read_image(path).dpi == pytest.approx((300, 200), abs=0.05)


@pytest.mark.parametrize("suffix", [".webp", ".png", pytest.param(".avif", marks=needs_avif)])
@pytest.mark.parametrize(("unit", "factor"), [(None, 1), (2, 1), (3, 2.54)])
def test_resolution_in_exif(tmp_path, suffix, unit, factor):
    exif = exif_with(
        XResolution=120.0, YResolution=60.0, **({"ResolutionUnit": unit} if unit else {})
    )
    image = read_image(save(tmp_path / f"a{suffix}", noise(8, 8, 3), exif=exif.tobytes()))
    assert image.dpi == pytest.approx((120 * factor, 60 * factor))


@pytest.mark.parametrize("kind", [np.uint16, np.float32])
@pytest.mark.parametrize(("unit", "factor"), [("inch", 1), ("centimeter", 2.54)])
def test_resolution_of_a_deep_tiff(tmp_path, kind, unit, factor):
    options = {"resolution": (300, 200), "resolutionunit": unit}
    path = save_tiff(tmp_path / "a.tif", smooth().astype(kind), **options)
    assert read_image(path).dpi == pytest.approx((300 * factor, 200 * factor))


@pytest.mark.parametrize("dpi", [(0, 0), (1, 1), (1e9, 1e9)])
def test_resolution_that_means_nothing(tmp_path, dpi):
    path = save_tiff(tmp_path / "a.tif", noise(5, 4, 3), resolution=dpi, resolutionunit="inch")
    assert read_image(path).dpi is None


# Colour profile


@needs_littlecms
@pytest.mark.parametrize("suffix", CONTAINERS)
def test_profile_is_carried_as_it_is(tmp_path, suffix):
    image = read_image(save(tmp_path / f"a{suffix}", noise(16, 16, 3), icc_profile=SRGB))
    assert image.icc_profile == SRGB
    assert image.warnings == ()


@pytest.mark.parametrize("kind", [np.uint16, np.float32])
def test_profile_of_a_deep_tiff(tmp_path, kind):
    tag = (34_675, 7, None, SRGB, True)
    path = save_tiff(tmp_path / "a.tif", smooth().astype(kind), extratags=[tag])
    assert read_image(path).icc_profile == SRGB


@needs_littlecms
@pytest.mark.parametrize(
    ("grey", "profile", "said"),
    [
        (False, b"broken" * 40, "its colour profile is damaged and was left out"),
        (False, SRGB[:100], "its colour profile is damaged and was left out"),
        (False, SRGB[:400], "its colour profile is damaged and was left out"),  # opens, no more
        (False, GREY_PROFILE, "its colour profile is for grey pictures and was left out"),
        (True, SRGB, "its colour profile is for RGB pictures and was left out"),
        (False, cmyk_profile(200), "its colour profile is for CMYK pictures and was left out"),
    ],
)
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_unfit_profile_is_left_out(tmp_path, suffix, grey, profile, said):
    if grey and suffix == ".webp":
        pytest.skip("WebP has no grey")
    array = noise(16, 16) if grey else noise(16, 16, 3)
    image = read_image(save(tmp_path / f"a{suffix}", array, icc_profile=profile))
    assert image.icc_profile is None
    assert image.warnings == (said,)


@needs_littlecms
def test_to_srgb_keeps_opacity():
    array = noise(5, 4, 4)
    display = imagecodecs.cms_profile("adobergb")
    with_alpha = colour.to_srgb(PIL.Image.fromarray(array), display)
    without = colour.to_srgb(PIL.Image.fromarray(array[..., :3]), display)
    assert with_alpha.mode == "RGBA"
    assert np.array_equal(np.asarray(with_alpha)[..., 3], array[..., 3])
    assert np.array_equal(np.asarray(with_alpha)[..., :3], np.asarray(without))
    assert np.abs(np.asarray(without).astype(int) - array[..., :3]).max() > 10


@needs_littlecms
def test_to_srgb_of_grey():
    picture = PIL.Image.fromarray(noise(5, 4, 2))
    converted = np.asarray(colour.to_srgb(picture, GREY_PROFILE)).astype(int)
    assert converted.shape == (5, 4, 4)
    assert np.ptp(converted[..., :3], axis=2).max() <= 1
    assert colour.to_srgb(picture, SRGB) is None


@needs_littlecms
def test_lab_becomes_rgb(tmp_path):
    rgb = PIL.Image.fromarray(np.rint(smooth() * 255).astype(np.uint8))
    to_lab = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
    )
    to_lab.apply(rgb).save(tmp_path / "a.tif")
    with PIL.Image.open(tmp_path / "a.tif") as picture:
        assert picture.mode == "LAB"
    image = read_image(tmp_path / "a.tif")
    assert np.abs(image.pixels - smooth()).mean() < 0.01  # few levels between dark Lab colours
    assert np.abs(image.pixels - smooth()).max() < 0.15
    assert image.icc_profile is None


# All at once

DPI_OF_NOTHING = {".jpg": (72, 72)}  # what Pillow makes of it


def worst(folder: Path, suffix: str) -> Path:
    array = np.rint(smooth(48, 64) * 255).astype(np.uint8)
    path = folder / f"a{suffix}"
    exif, xmp = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"<x:xmpmeta"
    if suffix == ".tif":
        tags = [(34_675, 7, None, b"broken" * 40, True), (700, 1, None, xmp, True)]
        tags += [(65_001, 4, 1, 7_000_000, True), (65_002, 4, 1, 3, True)]
        save_tiff(path, array, extratags=tags, resolution=(0, 0), resolutionunit="none")
        content = path.read_bytes()
        for placeholder, tag in ((65_001, 34_665), (65_002, 34_853)):  # EXIF and GPS
            entry = struct.pack("<HHI", placeholder, 4, 1)
            assert entry in content
            content = content.replace(entry, struct.pack("<HHI", tag, 4, 1))
        path.write_bytes(content)
        return path
    if suffix == ".png":
        text = png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)
        density = png_chunk(b"pHYs", bytes(9))
        content = io.BytesIO()
        PIL.Image.fromarray(array).save(content, "PNG", exif=exif, icc_profile=b"broken" * 40)
        path.write_bytes(content.getvalue()[:33] + text + density + content.getvalue()[33:])
        return path
    options = LOSSLESS_OPTIONS.get(suffix, {"quality": 100, "subsampling": 0})
    options |= {"dpi": (0, 0)} if suffix == ".jpg" else {}
    return save(path, array, exif=exif, icc_profile=b"broken" * 40, xmp=xmp, **options)


@needs_littlecms
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_nothing_but_the_picture_is_good(tmp_path, suffix, capfd):
    image = read_image(worst(tmp_path, suffix))
    assert np.abs(image.pixels - smooth(48, 64)).max() < 0.04
    assert (image.xmp, image.icc_profile, image.dpi) == (None, None, DPI_OF_NOTHING.get(suffix))
    assert image.exif is None or suffix == ".tif"  # which has other tags, good ones
    assert [clause.split()[1] for clause in image.warnings] == ["EXIF", "XMP", "colour"]
    assert capfd.readouterr() == ("", "")


@needs_littlecms
def test_nothing_but_the_picture_is_good_in_16_bit(tmp_path):
    array = deep_noise(13, 11, 3)
    damage = png_chunk(b"eXIf", b"MM\0*\0\0\0\x08\xff\xff")
    damage += png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x:xmpmeta") + png_chunk(
        b"pHYs", bytes(9)
    )
    path = tmp_path / "a.png"
    path.write_bytes(deep_png(array, damage))
    image = read_image(path)
    assert np.array_equal(levels(image.pixels), array)
    assert [clause.split()[1] for clause in image.warnings] == ["EXIF", "XMP"]


def test_metadata_behind_the_pixels_of_a_deep_png(tmp_path):
    content = deep_png(deep_noise(13, 11, 3))
    late = png_chunk(b"eXIf", exif_with(6, Make="Maker").tobytes()[6:])
    (tmp_path / "a.png").write_bytes(content[:-12] + late + content[-12:])
    image = read_image(tmp_path / "a.png")
    assert image.pixels.shape == (11, 13, 3)
    assert b"Maker" in image.exif


def test_profile_is_not_checked_where_nothing_can(tmp_path, monkeypatch):
    monkeypatch.setattr(features, "check", lambda feature: False)
    path = save(tmp_path / "a.png", noise(5, 4, 3), icc_profile=b"broken" * 40)
    assert read_image(path).icc_profile == b"broken" * 40
