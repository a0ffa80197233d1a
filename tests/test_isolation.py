"""What crashes, hangs or is stopped in the decoding process harms no other picture."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from animations import WHOLE, Drawn, gif
from dmsr_cli.errors import ImageError
from dmsr_cli.images import IsolatedDecoder, Limits, open_sequence, read_image, serving, worker
from dmsr_cli.interruption import SIGNALS
from pictures import error_of, needs_posix, noise, save

LONG = 60  # seconds; nothing here takes so long


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return save(tmp_path / "a.png", noise(900, 700, 4))  # pixels in several messages


@pytest.fixture
def decoder():
    with IsolatedDecoder() as decoder:
        yield decoder


def process_of(decoder: IsolatedDecoder) -> int:
    with decoder.worker() as one:
        return one.process_id


def equal(one, other) -> bool:
    if not np.array_equal(one.pixels, other.pixels):
        return False
    if not np.array_equal(one.alpha, other.alpha):
        return False
    fields = ("grey", "icc_profile", "exif", "dpi", "format", "xmp", "depth", "warnings")
    return all(getattr(one, name) == getattr(other, name) for name in fields)


def test_the_picture_is_the_same(decoder, photo, tmp_path):
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x0f\0\2\0\0\0\6\0\0\0\x1aMaker\0"
    small = save(tmp_path / "b.jpg", noise(3, 5), exif=exif)
    deep = save(tmp_path / "c.png", noise(40, 50).astype(np.uint16) * 257)
    for path in (photo, small, deep, str(photo)):
        assert equal(decoder.read_image(path), read_image(path))
    assert decoder.open_sequence(photo) is None


def test_the_sequence_is_the_same(decoder, photo, tmp_path):
    path = tmp_path / "a.gif"
    path.write_bytes(gif(*(Drawn(WHOLE, 1 + n % 3) for n in range(5)), loop=3, comment=b"hello"))
    with open_sequence(path) as expected, decoder.open_sequence(path) as sequence:
        for name in serving.SEQUENCE_FIELDS:
            assert getattr(sequence, name) == getattr(expected, name)
        assert sequence.count == 5
        frames = sequence.frames(1, 4)
        first = next(frames)
        assert equal(decoder.read_image(photo), read_image(photo))  # between two frames
        for one, other in zip([first, *frames], expected.frames(1, 4), strict=True):
            assert equal(one.image, other.image)
            assert one.duration == other.duration
        with pytest.raises(ImageError, match="5:6 is no range of them"):
            sequence.frames(5, 6)


def test_errors_and_limits_are_the_same(photo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cut = tmp_path / "cut.png"
    cut.write_bytes(photo.read_bytes()[:5000])
    with IsolatedDecoder(Limits(max_pixels=100)) as decoder:
        number = process_of(decoder)
        for path in (photo, cut, Path("missing.png"), tmp_path, Path("a.png")):
            message = error_of(decoder.read_image, path)
            assert message == error_of(read_image, path, limits=Limits(max_pixels=100))
        assert process_of(decoder) == number
    with IsolatedDecoder(Limits(allow_truncated=True)) as decoder:
        (warning,) = decoder.read_image(cut).warnings
        assert "cut short" in warning


def test_a_stream_is_read_here(decoder, photo):
    with photo.open("rb") as file:
        assert equal(decoder.read_image(file), read_image(photo))


def test_the_decoding_process_has_no_torch(decoder, photo):
    decoder.read_image(photo)
    maps = Path(f"/proc/{process_of(decoder)}/maps")
    if not maps.exists():
        pytest.skip("only Linux tells")
    text = maps.read_text()
    assert "numpy" in text
    assert "libtorch" not in text


class CrashingServer(serving.Server):
    """Does what a bug in a decoder can do, where the name of the file asks for it."""

    def read_image(self, source: Path, limits: Limits):
        print("remark of a library", flush=True)
        os.write(2, b"another remark\n")
        kind = source.name.split(".")[0]
        if kind in ("SIGSEGV", "SIGABRT", "SIGKILL"):
            os.kill(os.getpid(), getattr(signal, kind))
        end = time.process_time() + {"busy": LONG, "slow": 0.5}.get(kind, 0)
        while time.process_time() < end:
            pass
        while kind == "asleep":
            time.sleep(1)
        if kind == "bug":
            raise ZeroDivisionError("a mistake")
        return super().read_image(source, limits)

    def next_frame(self):
        os.abort()


@pytest.fixture
def crashing(monkeypatch):
    monkeypatch.setattr(worker, "SERVER", CrashingServer)
    with IsolatedDecoder() as decoder:
        yield decoder


@needs_posix
@pytest.mark.parametrize("kind", ["SIGSEGV", "SIGABRT", "SIGKILL"])
def test_a_crash_is_the_error_of_one_picture(crashing, photo, tmp_path, kind, capfd):
    path = tmp_path / f"{kind}.png"
    path.write_bytes(photo.read_bytes())
    message = error_of(crashing.read_image, path)
    assert ("memory is short" if kind == "SIGKILL" else f"crashed ({kind})") in message
    assert equal(crashing.read_image(photo), read_image(photo))
    assert capfd.readouterr() == ("", "")


@needs_posix
@pytest.mark.parametrize("kind", ["busy", "asleep"])
def test_a_decoder_that_does_not_end_is_ended(crashing, photo, tmp_path, kind, monkeypatch):
    monkeypatch.setattr(worker, "SECONDS", 1)
    monkeypatch.setattr(worker, "WALL_FACTOR", 2 if kind == "asleep" else LONG)
    monkeypatch.setattr(worker, "SECONDS_PER_MEGABYTE", 0)
    path = tmp_path / f"{kind}.png"
    path.write_bytes(photo.read_bytes())
    started = time.monotonic()
    assert "took more than 1 s" in error_of(crashing.read_image, path)
    assert time.monotonic() - started < LONG
    assert equal(crashing.read_image(photo), read_image(photo))


def test_larger_files_may_take_longer(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(bytes(3_000_000))
    assert worker.allowed_seconds(path) == worker.SECONDS + 3 * worker.SECONDS_PER_MEGABYTE
    assert worker.allowed_seconds(tmp_path / "missing") == worker.SECONDS


@needs_posix
def test_time_is_for_each_picture_anew(crashing, photo, monkeypatch):
    monkeypatch.setattr(worker, "SECONDS", 1)
    monkeypatch.setattr(worker, "SECONDS_PER_MEGABYTE", 0)
    path, number = photo.rename(photo.with_name("slow.png")), process_of(crashing)
    for _ in range(5):
        crashing.read_image(path)
    assert process_of(crashing) == number


def test_a_mistake_is_not_the_files(crashing, photo, tmp_path):
    path = tmp_path / "bug.png"
    path.write_bytes(photo.read_bytes())
    with pytest.raises(RuntimeError, match="ZeroDivisionError: a mistake"):
        crashing.read_image(path)
    assert equal(crashing.read_image(photo), read_image(photo))


@needs_posix
def test_a_frame_that_crashes(crashing, photo, tmp_path):
    path = tmp_path / "a.gif"
    path.write_bytes(gif(Drawn(WHOLE, 1), Drawn(WHOLE, 2)))
    with crashing.open_sequence(path) as sequence:
        message = error_of(lambda path: next(sequence.frames()), path)
    assert "crashed (SIGABRT)" in message
    assert equal(crashing.read_image(photo), read_image(photo))


@needs_posix
def test_a_decoder_that_ended_while_idle_blames_no_picture(decoder, photo):
    decoder.read_image(photo)
    number = process_of(decoder)
    os.kill(number, signal.SIGKILL)  # it may still be dying when it is asked
    assert equal(decoder.read_image(photo), read_image(photo))
    assert process_of(decoder) != number


@needs_posix
def test_ctrl_c_in_the_terminal_is_not_for_the_decoder(decoder, photo):
    number = process_of(decoder)
    os.kill(number, signal.SIGINT)  # while it starts, perhaps
    decoder.read_image(photo)
    for sent in SIGNALS:  # SIGHUP: a terminal that is closed sends it to all of its processes
        os.kill(number, sent)
    decoder.read_image(photo)
    assert process_of(decoder) == number


@needs_posix
def test_an_exchange_that_is_broken_off_leaves_nothing_behind(decoder, photo, monkeypatch):
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(worker.Worker, "_received", interrupt)
        with pytest.raises(KeyboardInterrupt):
            decoder.read_image(photo)
    other = save(photo.with_name("b.png"), noise(3, 4, 3))
    assert equal(decoder.read_image(other), read_image(other))  # not the answer before


@needs_posix
def test_the_end_of_the_block_ends_the_process(photo):
    with IsolatedDecoder() as decoder:
        number = process_of(decoder)
        decoder.read_image(photo)
    wait_for_end(number)


@needs_posix
def test_the_decoder_ends_with_its_parent_however_that_ends(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
            import time
            from dmsr_cli.images import IsolatedDecoder

            if __name__ == "__main__":
                decoder = IsolatedDecoder()
                with decoder.worker() as worker:
                    print(worker.process_id, flush=True)
                time.sleep(600)
        """)
    )
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        number = int(process.stdout.readline())
        process.kill()
    wait_for_end(number)


@needs_posix
def test_a_decoder_that_was_forgotten_keeps_no_program_from_ending(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from dmsr_cli.images import IsolatedDecoder\n"
        "if __name__ == '__main__':\n"
        "    decoder = IsolatedDecoder()\n"
        "    try:\n"
        "        decoder.read_image('missing.png')\n"
        "    except Exception as error:\n"
        "        print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=LONG, check=True
    )
    assert (done.stdout, done.stderr) == ("cannot read missing.png: no such file\n", "")


def test_threads_do_not_wait_for_each_other_for_ever(decoder, photo):
    expected, wrong = read_image(photo), []

    def read() -> None:
        wrong.extend(1 for _ in range(5) if not equal(decoder.read_image(photo), expected))

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
        assert not thread.is_alive()
    assert not wrong


def wait_for_end(process: int) -> None:
    """Until it is gone, or waits for nobody but its parent."""
    limit = time.monotonic() + LONG
    while time.monotonic() < limit:
        try:
            os.kill(process, 0)
            if ") Z" in Path(f"/proc/{process}/stat").read_text():
                return
        except OSError:
            return
        time.sleep(0.05)
    pytest.fail(f"process {process} goes on")
