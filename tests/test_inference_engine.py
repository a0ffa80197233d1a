"""Second attempts: less memory, another precision, another device; and what tiles are worth."""

import dataclasses
import weakref

import numpy as np
import pytest
import torch

from dmsr_cli.errors import DeviceError, WeightsError
from dmsr_cli.inference import engine, pieces
from dmsr_cli.inference import plan as plans
from dmsr_cli.model import DMSR
from dmsr_cli.pipeline import Model, estimate, upscale
from tiny_weights import with_strong_attention

CPU = torch.device("cpu")
WHOLE = 10**6


def picture(height: int = 130, width: int = 150) -> np.ndarray:
    """Four quarters that have little in common."""
    pixels = np.random.default_rng(0).random((height, width, 3), dtype=np.float32)
    pixels[: height // 2, : width // 2] *= np.array([1, 0.2, 0.1], np.float32)
    pixels[height // 2 :, width // 2 :] = 0.3 + pixels[height // 2 :, width // 2 :] / 10
    return pixels


@pytest.fixture
def network(tiny_model) -> DMSR:
    return with_strong_attention(tiny_model())


@pytest.fixture
def model(network) -> Model:
    return Model(network, "tiny-x4", CPU, torch.float32)


@pytest.fixture
def tiles(model, monkeypatch) -> list[int]:
    """LR pixels of what the body is given at a time, in the order of the calls."""
    sizes, features_of = [], engine.features_of

    def recording(restorer, lr, *arguments, **options):
        sizes.append(lr.shape[-2] * lr.shape[-1])
        return features_of(restorer, lr, *arguments, **options)

    monkeypatch.setattr(engine, "features_of", recording)
    return sizes


def levels(restored: np.ndarray) -> np.ndarray:
    return np.rint(restored * 255)


class TestTiles:
    def test_whole_equals_the_plain_forward(self, model, monkeypatch):
        for name in ("BODY_PIXELS", "RENDER_PIXELS"):
            monkeypatch.setitem(getattr(pieces, name), "cpu", 1000)
        whole, plain = (upscale(picture(), model, tile=tile) for tile in ("auto", 0))
        assert plain.std() > 0.05
        np.testing.assert_allclose(whole, plain, atol=1e-5)

    @pytest.mark.parametrize("tile", [48, 57, 64, 100])
    def test_tiles_equal_the_whole(self, model, tiles, tile):
        """With exact gates only the blend and what lies beyond the overlap are left."""
        pixels = picture()
        whole = upscale(pixels, model, tile=0)
        found = upscale(pixels, model, tile=tile)
        assert len(tiles) >= 4
        assert max(tiles) < 130 * 150
        np.testing.assert_allclose(found, whole, atol=1e-4)

    def test_bound_with_sampled_gates(self, model, tiles, monkeypatch):
        """The promise: at most one level at 99.9 % of the pixels, and three anywhere."""
        monkeypatch.setattr(plans, "SAMPLE_PIXELS", 10_000)
        pixels = picture()
        whole = levels(upscale(pixels, model, tile=0))
        for tile in (48, 64, 96):
            tiles.clear()
            difference = np.abs(levels(upscale(pixels, model, tile=tile)) - whole)
            assert len(tiles) > 1
            assert (difference <= 1).mean() >= 0.999
            assert difference.max() <= 3

    def test_other_gates_would_break_the_bound(self, model, monkeypatch):
        pixels = picture()
        whole = levels(upscale(pixels, model, tile=0))
        sampled = engine.sampled_gates
        monkeypatch.setattr(
            engine, "sampled_gates", lambda *inputs: [0.5 * gate for gate in sampled(*inputs)]
        )
        difference = np.abs(levels(upscale(pixels, model, tile=64)) - whole)
        assert (difference <= 1).mean() < 0.9

    def test_only_tiles_travel_to_the_device(self, model, monkeypatch):
        sizes, to_tensor = [], engine._to_tensor

        def recording(pixels, box, device):
            sizes.append(box.height * box.width)
            return to_tensor(pixels, box, device)

        monkeypatch.setattr(engine, "_to_tensor", recording)
        monkeypatch.setattr(plans, "SAMPLE_PIXELS", 5000)
        monkeypatch.setitem(pieces.EXTRACTION_PIXELS, "cpu", 5000)
        upscale(picture(), model, tile=48, overlap=16)
        assert max(sizes) < 130 * 150 / 2

    def test_pictures_leave_nothing_behind(self, model):
        pixels = picture(40, 50)
        first = upscale(pixels, model)
        upscale(picture(64, 30) / 3, model, tile=48, overlap=4)
        np.testing.assert_array_equal(upscale(pixels, model), first)


def failing_above(pixels: int, error: Exception, original):
    """Raise where more LR pixels come at a time than the memory of this test has."""

    def function(first, *arguments, **options):
        if first.shape[-2] * first.shape[-1] > pixels:
            raise error
        return original(first, *arguments, **options)

    return function


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB"),
    MemoryError(),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ..."),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
    RuntimeError("MPS backend out of memory (MPS allocated: 8 GB, other allocations: 1 GB)"),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
]


class TestMemory:
    @pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: type(error).__name__)
    @pytest.mark.parametrize("tile", ["auto", 0])
    def test_tiles_are_halved(self, model, tiles, monkeypatch, error, tile):
        pixels, notes = picture(200, 260), []
        expected = upscale(pixels, model, tile=0)
        restorer = model.network.restorer
        for name, limit in (("denoise", 20_000), ("render", 20_000), ("body", 20_000)):
            failing = failing_above(limit, error, getattr(restorer, name).__call__)
            monkeypatch.setitem(restorer.__dict__, name, failing)
        monkeypatch.setitem(pieces.BODY_PIXELS, "cpu", 10**6)  # as on a GPU
        tiles.clear()
        found = upscale(pixels, model, tile=tile, on_note=notes.append)
        assert [note.split()[-5] for note in notes] == ["130", "65"]
        assert all(note.startswith("out of memory: trying again") for note in notes)
        assert tiles[-1] <= 20_000
        difference = np.abs(levels(found) - levels(expected))
        assert (difference <= 1).mean() >= 0.999

    @pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: type(error).__name__)
    def test_nothing_helps(self, model, monkeypatch, error):
        failing = failing_above(0, error, None)
        monkeypatch.setitem(model.network.restorer.__dict__, "denoise", failing)
        with pytest.raises(DeviceError, match="out of memory") as caught:
            upscale(picture(), model)
        assert "\n" not in str(caught.value)
        monkeypatch.setattr(model.network.extractor, "maps", failing)
        with pytest.raises(DeviceError, match="out of memory"):
            estimate(picture(), model)

    def test_estimate_takes_smaller_pieces(self, model, monkeypatch):
        pixels, notes = picture(), []
        expected = estimate(pixels, model)
        extractor = model.network.extractor
        failing = failing_above(10_000, MemoryError(), extractor.maps)
        monkeypatch.setattr(extractor, "maps", failing)
        found = estimate(pixels, model, on_note=notes.append)
        np.testing.assert_allclose(found.kernel, expected.kernel, atol=1e-6)
        np.testing.assert_allclose(found.noise_map, expected.noise_map, atol=1e-6)
        assert notes
        assert "on cpu" in notes[-1]

    @pytest.mark.parametrize("error", [RuntimeError("a bug"), ValueError("a bug")])
    def test_other_errors_pass(self, model, monkeypatch, error):
        failing = failing_above(0, error, None)
        monkeypatch.setitem(model.network.restorer.__dict__, "denoise", failing)
        with pytest.raises(type(error), match="a bug"):
            upscale(picture(), model)

    def test_what_an_attempt_held_is_free_before_the_next(self, model, monkeypatch):
        held, features_of = [], engine.features_of

        def leaking(restorer, lr, *arguments, **options):
            if not held:
                held.append(weakref.ref(lr))
                raise MemoryError
            assert held[0]() is None
            return features_of(restorer, lr, *arguments, **options)

        monkeypatch.setattr(engine, "features_of", leaking)
        upscale(picture(200, 260), model)
        assert held


class TestFallback:
    def test_the_cpu_comes_last(self, network, monkeypatch):
        """A GPU that is too small for the smallest tiles: the picture is restored on the CPU."""
        cuda, attempts, notes = torch.device("cuda"), [], []
        attempt = engine._attempt

        def on_a_small_gpu(task, plan):
            attempts.append((plan.device.type, plan.tile, plan.precision))
            if plan.device.type == "cuda":
                raise torch.OutOfMemoryError
            attempt(task, plan)

        monkeypatch.setattr(engine, "_attempt", on_a_small_gpu)
        monkeypatch.setattr(plans, "free_memory", lambda device: 2**34)
        pixels = picture()
        on_cpu = Model(network, "tiny", CPU, torch.float32)
        degradation = estimate(pixels, on_cpu)
        model = Model(network, "tiny", cuda, torch.float16)
        found = upscale(pixels, model, degradation, on_note=notes.append)
        assert [device for device, _, _ in attempts] == ["cuda"] * (len(attempts) - 1) + ["cpu"]
        assert [tile for _, tile, _ in attempts[1:-1]] == [75, 48]
        assert attempts[-1][2] == torch.float32
        assert notes[-1] == "out of memory: trying again with the CPU"
        np.testing.assert_array_equal(found, upscale(pixels, on_cpu, degradation))

    def test_the_network_stays_where_it_is(self, network):
        moved = engine._moved(network, torch.device("cpu"), torch.device("meta"))
        assert {parameter.device.type for parameter in moved.parameters()} == {"meta"}
        assert {parameter.device.type for parameter in network.parameters()} == {"cpu"}
        assert engine._moved(network, CPU, CPU) is network

    def test_no_copy_is_made_where_the_network_is(self, network, monkeypatch):
        """It moves because the memory there is full."""

        def fail(parameter, memo):
            raise torch.OutOfMemoryError

        monkeypatch.setattr(torch.nn.Parameter, "__deepcopy__", fail)
        moved = engine._moved(network, CPU, torch.device("meta"))
        for before, after in zip(network.parameters(), moved.parameters(), strict=True):
            assert after.device.type == "meta"
            assert after.shape == before.shape
            assert after.stride() == before.stride()


class TestOverflow:
    @pytest.fixture
    def overflowing(self, model, monkeypatch):
        """A network that overflows in reduced precision, or always."""
        render = model.network.restorer.render

        def overflow(bad: float, always: bool = False) -> list[bool]:
            reduced = []

            def rendering(features, kernel):
                restored = render(features, kernel)
                reduced.append(torch.is_autocast_enabled("cpu"))
                if reduced[-1] or always:
                    restored[0, 1, -1, -1] = bad
                return restored

            monkeypatch.setitem(model.network.restorer.__dict__, "render", rendering)
            return reduced

        return overflow

    @pytest.mark.parametrize("tile", ["auto", 48, 0])
    @pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
    def test_is_redone_in_full_precision(self, model, overflowing, bad, tile):
        pixels, notes = picture(), []
        expected = upscale(pixels, model, tile=tile)
        reduced = overflowing(bad)
        reduced_model = dataclasses.replace(model, precision=torch.bfloat16)
        degradation = estimate(pixels, model)
        restored = upscale(pixels, reduced_model, degradation, tile, on_note=notes.append)
        assert reduced[0]
        assert not reduced[-1]
        assert len(notes) == 1
        assert "fp32" in notes[0]
        np.testing.assert_array_equal(restored, expected)

    def test_a_degradation_must_be_finite(self, model):
        """An estimate from values that are finite but out of bounds."""
        with pytest.raises(WeightsError, match="the picture's values are out of bounds") as caught:
            upscale(picture() * np.float32(3e38), model)
        assert "\n" not in str(caught.value)

    def test_in_full_precision_it_is_an_error(self, model, overflowing):
        overflowing(float("nan"), always=True)
        for precision in (torch.float32, torch.bfloat16):
            with pytest.raises(WeightsError, match="not finite") as caught:
                upscale(picture(), dataclasses.replace(model, precision=precision))
            assert "\n" not in str(caught.value)
