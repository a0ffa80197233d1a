import io

import numpy as np
import pytest
import tifffile

from animations import SIZE, WHOLE, Drawn, apng, coloured, gif, moving
from dmsr_cli.errors import DmsrError, ImageError
from dmsr_cli.images import Limits, open_sequence, sequences, write_sequence
from dmsr_cli.images.limits import USUAL
from pictures import check_contract, noise


def written(format_name: str, count: int = 4) -> bytes:
    file = io.BytesIO()
    write_sequence(moving(count), file, count=count, format=format_name)
    return file.getvalue()


def pages_content(count: int) -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for seed in range(count):
            deep = noise(8, 9, 3, seed=seed).astype(np.uint16)
            writer.write(deep, photometric="rgb", metadata=None, compression="zlib")
    return file.getvalue()


def failure(content: bytes, limits: Limits = USUAL) -> tuple[int, str]:
    """How many frames came, and the message that ended them."""
    came = 0

    def take_all():
        nonlocal came
        with open_sequence(io.BytesIO(content), limits) as sequence:
            for _ in sequence.frames():
                came += 1

    with pytest.raises(ImageError) as caught:
        take_all()
    assert "\n" not in str(caught.value)
    return came, str(caught.value)


def test_cut_gif_names_the_first_missing_frame():
    content = gif(*(Drawn(WHOLE, 1 + n % 3) for n in range(5)))
    one = len(gif(Drawn(WHOLE, 1), Drawn(WHOLE, 2))) - len(gif(Drawn(WHOLE, 1)))
    for cut in range(len(content) - 3 * one, len(content)):
        came, message = failure(content[:cut])
        assert came < 5 or cut >= len(content) - 2
        assert f"frame {came} (the first is 0) is damaged or cut short" in message
        assert f"--frames 0:{came}" in message
        with open_sequence(io.BytesIO(content[:cut])) as sequence:
            assert len(list(sequence.frames(0, came))) == came  # the advice works


def test_cut_apng_names_the_missing_frame():
    content = written("PNG")
    came, message = failure(content[: content.rindex(b"fcTL") + 40])
    assert came == 3
    assert "frame 3 (the first is 0) is damaged or cut short" in message
    red = coloured(*SIZE, 255, 0, 0, 255)
    piece = (red, (0, 0), 0, 0, 10)
    came, message = failure(apng(piece, piece, count=3))
    assert came == 2
    assert "frame 2" in message


def test_damaged_frame_in_the_midst():
    content = bytearray(written("PNG", 5))
    starts = [n for n in range(len(content)) if content[n : n + 4] == b"fdAT"]
    content[starts[1] + 12 : starts[1] + 24] = bytes(12)
    came, message = failure(bytes(content))
    assert came == 2
    assert "frame 2 (the first is 0) is damaged" in message
    assert "--frames 0:2" in message


def test_cut_page_is_named():
    content = pages_content(3)
    with tifffile.TiffFile(io.BytesIO(content)) as stored:
        offset = stored.pages[1].dataoffsets[0]
    damaged = bytearray(content)
    damaged[offset : offset + 8] = bytes(8)
    came, message = failure(bytes(damaged))
    assert came == 1
    assert "page 1" in message


def test_cut_document_names_the_missing_page():
    content = pages_content(3)
    for cut in (760, 900, len(content) - 20):  # before, within and after the tags of a page
        came, message = failure(content[:cut])
        assert came in (1, 2)
        assert f"page {came} (the first is 0)" in message
        assert "damaged or cut short" in message
        assert f"--frames 0:{came}" in message
    with open_sequence(io.BytesIO(content[:566])) as sequence:
        assert sequence.count == 1  # no still: a page is missing
        assert len(list(sequence.frames(0, 1))) == 1


def test_too_much_is_refused_before_it_is_decoded(monkeypatch):
    content = gif(*(Drawn(WHOLE, 1 + n % 3) for n in range(5)))
    monkeypatch.setattr(sequences, "MAX_SEQUENCE_PIXELS", SIZE[0] * SIZE[1] * 4)
    came, message = failure(content)
    assert came == 0
    assert "--frames A:B" in message
    with open_sequence(io.BytesIO(content)) as sequence:
        assert len(list(sequence.frames(1))) == 4
    came, message = failure(pages_content(3))  # their sizes show only one after the other
    assert came == 1


SEEDS = 200


@pytest.mark.parametrize("format_name", ["GIF", "PNG", "WEBP", "TIFF"])
def test_mutations_give_frames_or_one_line(format_name):
    content = pages_content(3) if format_name == "TIFF" else written(format_name, 3)
    outcomes = set()
    for seed in range(SEEDS // 4):
        random = np.random.default_rng(seed)
        mutant = bytearray(content)
        for place in random.integers(0, len(mutant), random.integers(1, 8)):
            mutant[place] = random.integers(0, 256)
        if seed % 3 == 0:
            del mutant[random.integers(8, len(mutant)) :]
        try:
            sequence = open_sequence(io.BytesIO(bytes(mutant)))
            frames = list(sequence.frames()) if sequence else []
            for frame in frames:
                check_contract(frame.image)
            outcomes.add("frames" if frames else "none")
        except DmsrError as error:
            outcomes.add("error" if "\n" not in str(error) else "lines")
    assert "lines" not in outcomes
    assert len(outcomes) > 1


def test_page_too_large_is_refused_before_it_is_decoded():
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for side in (10, 11):
            writer.write(noise(side, side, 3), photometric="rgb", metadata=None)
    came, message = failure(file.getvalue(), Limits(max_pixels=100))
    assert came == 1
    assert "page 1 (the first is 0) has 121 pixels, more than the limit of 100" in message
