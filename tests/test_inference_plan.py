"""Plans: the largest that the memory allows, and a refusal before anything starts."""

import dataclasses
import tracemalloc

import numpy as np
import pytest
import torch

from dmsr_cli import pipeline
from dmsr_cli.config import DMSRConfig
from dmsr_cli.device import move
from dmsr_cli.errors import DeviceError
from dmsr_cli.inference import plan as plans
from dmsr_cli.inference.plan import Plan, Request, bytes_needed, choose_plan, overlap_for
from dmsr_cli.model import DMSR
from dmsr_cli.training.settings import read_recipe
from torch_memory import peak_bytes

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
LITE = read_recipe("lite").model
FULL = DMSRConfig()


def plan_of(tile: int, overlap: int = 16, device: torch.device = CPU) -> Plan:
    return Plan(device, torch.float32, tile, overlap, plans.SAMPLE_PIXELS)


class TestMemoryModel:
    """What is counted is what torch allocates: not less, and not much more."""

    @pytest.fixture(autouse=True)
    def small_pieces(self, monkeypatch):
        """Pieces that leave room for what grows with the picture, on small pictures."""
        monkeypatch.setattr(plans, "SAMPLE_PIXELS", 2**13)
        for name, pixels in (("BODY", 2**11), ("RENDER", 2**10), ("EXTRACTION", 2**11)):
            monkeypatch.setitem(getattr(plans, f"{name}_PIXELS"), "cpu", pixels)

    @pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
    @pytest.mark.parametrize("tile", [0, 64, 1000])
    @pytest.mark.parametrize("scale", [2, 4])
    @pytest.mark.parametrize("kind", ["lite", "wide window"])
    def test_allocations(self, kind, scale, tile, precision):
        changes = {} if kind == "lite" else {"deblur_size": 15, "upsampled_channels": 64}
        config = dataclasses.replace(LITE, scale=scale, groups=2, blocks=1, **changes)
        network = move(DMSR(config), CPU).eval()
        overlap = min(overlap_for(config), max(0, tile - 1))
        plan = Plan(CPU, precision, tile, overlap, plans.SAMPLE_PIXELS)
        assert plan.is_tiled(120, 200) == (tile == 64)
        model = pipeline.Model(network, kind, CPU, precision)
        pixels = torch.rand(120, 200, 3).numpy()
        degradation = pipeline.estimate(pixels, model)
        taken = peak_bytes(lambda: pipeline.upscale(pixels, model, degradation, tile))
        needed = bytes_needed(plan, config, 120, 200)
        assert taken <= needed * 1.02  # the network's own tensors are a few hundred kilobytes
        assert needed <= 3 * taken  # nor is it guessed

    @pytest.mark.parametrize("size", [(120, 200), (300, 61)])
    @pytest.mark.parametrize(("tile", "overlap"), [(48, 47), (64, 16), (90, 0)])
    @pytest.mark.parametrize("dtype", [np.float32, np.uint8])
    def test_blend(self, tiny_model, size, tile, overlap, dtype):
        """Bands and tiles are arrays: torch does not see them."""
        model = pipeline.Model(tiny_model(), "tiny", CPU, torch.float32)
        pixels = torch.rand(*size, 3).numpy()
        degradation = pipeline.estimate(pixels, model)
        tracemalloc.start()
        restored = pipeline.upscale(pixels, model, degradation, tile, overlap=overlap, dtype=dtype)
        taken = tracemalloc.get_traced_memory()[1] - restored.nbytes
        tracemalloc.stop()
        counted = plans._blend_bytes(plan_of(tile, overlap), model.scale, *size)
        assert taken <= counted * 1.05  # the interpreter's own objects are there, too
        assert counted <= 1.5 * taken

    @pytest.mark.parametrize("scale", [2, 4])
    def test_extraction(self, scale):
        config = dataclasses.replace(LITE, scale=scale)
        model = pipeline.Model(move(DMSR(config), CPU).eval(), "lite", CPU, torch.float32)
        pixels = torch.rand(120, 200, 3).numpy()
        taken = peak_bytes(lambda: pipeline.estimate(pixels, model))
        assert taken <= bytes_needed(plan_of(1000), config, 120, 200)

    def test_whole_pictures_do_not_depend_on_the_scale(self):
        needed = [
            bytes_needed(plan_of(10**6), dataclasses.replace(LITE, scale=scale), 800, 900)
            for scale in (2, 3, 4)
        ]
        assert len(set(needed)) == 1


class TestChoice:
    @pytest.fixture
    def choose(self, monkeypatch):
        def choose(free, height, width, tile="auto", overlap=None, device=CPU, **more):
            host, result_bytes = more.get("host", 2**40), more.get("result_bytes", 0)
            memory = {"cpu": free if device == CPU else host, "cuda": free}
            monkeypatch.setattr(plans, "free_memory", lambda device: memory[device.type])
            request = Request(height, width, device, torch.float32, tile, overlap, result_bytes)
            return choose_plan(LITE, request)

        return choose

    def test_what_fits_is_restored_whole(self, choose):
        assert not choose(2**34, 800, 900).is_tiled(800, 900)
        assert not choose(2**36, 4000, 3000, device=CUDA).is_tiled(4000, 3000)

    def test_a_cpu_keeps_to_its_budget(self, choose):
        chosen = choose(2**40, 4000, 3000)
        assert chosen.is_tiled(4000, 3000)
        assert bytes_needed(chosen, LITE, 4000, 3000) <= plans.CPU_BUDGET

    @pytest.mark.parametrize("device", [CPU, CUDA])
    def test_tiles_as_large_as_the_memory_allows(self, choose, device):
        sides = []
        for free in (2**30, 2**31, 2**32, 2**33):
            chosen = choose(free, 6000, 8000, device=device)
            assert chosen.is_tiled(6000, 8000)
            assert bytes_needed(chosen, LITE, 6000, 8000) <= free
            larger = dataclasses.replace(chosen, tile=chosen.tile * 5 // 4)
            budget = min(free * plans.SHARE, plans.CPU_BUDGET if device == CPU else free)
            assert bytes_needed(larger, LITE, 6000, 8000) > budget
            sides.append(chosen.tile)
        assert sides == sorted(sides)
        assert sides[-1] > sides[0] or device == CPU

    @pytest.mark.parametrize("device", [CPU, CUDA])
    def test_too_little_for_anything(self, choose, device):
        with pytest.raises(DeviceError, match=r"need about .* MiB") as caught:
            choose(2**24, 3000, 4000, device=device)
        assert "16 MiB are free" in str(caught.value)
        assert ("--device cpu" in str(caught.value)) == (device == CUDA)

    @pytest.mark.parametrize("tile", [0, 2000])
    def test_a_tile_that_cannot_fit(self, choose, tile):
        with pytest.raises(DeviceError, match=f"--tile {tile} needs about .* GiB") as caught:
            choose(2**30, 3000, 4000, tile)
        assert "--tile auto" in str(caught.value)

    @pytest.mark.parametrize(("tile", "overlap"), [(16, 15), (48, 47), (60, None), (512, None)])
    def test_overlap(self, choose, tile, overlap):
        chosen = choose(2**34, 3000, 4000, tile)
        assert chosen.tile == tile
        if overlap is None:
            # What is used of a tile is as deep in it as the network sees.
            assert chosen.overlap * 7 / 16 >= LITE.body_radius + LITE.render_radius
        else:
            assert chosen.overlap == overlap
        assert choose(2**34, 3000, 4000, tile, 7).overlap == 7

    def test_the_result_needs_memory_too(self, choose):
        assert not choose(2**32, 900, 900).is_tiled(900, 900)
        with pytest.raises(DeviceError, match="tiles need") as caught:
            choose(2**32, 900, 900, result_bytes=2**32 - 2**20)
        assert " 1 MiB are free" in str(caught.value)
        for device in (CPU, CUDA):
            with pytest.raises(DeviceError, match=r"result alone needs .* 2.0 GiB are free"):
                choose(2**31, 900, 900, device=device, host=2**31, result_bytes=2**33)

    def test_bands_of_a_gpu_lie_in_the_systems_memory(self, choose):
        """A GPU may have room for larger tiles than the machine around it."""
        tiles = [
            choose(2**33, 6000, 8000, device=CUDA, host=host).tile for host in (2**29, 2**31, 2**40)
        ]
        assert tiles[0] < tiles[1] < tiles[2]

    def test_little_memory_has_small_samples(self, choose):
        assert choose(2**32, 3000, 4000, 48).sample == plans.SAMPLE_PIXELS
        small = choose(2**28, 500, 600, 48, device=CUDA)
        assert plans.SMALLEST_SAMPLE <= small.sample < 500 * 600
        assert bytes_needed(small, LITE, 500, 600) <= 2**28

    def test_overlap_has_an_end(self):
        assert overlap_for(FULL) == plans.LARGEST_OVERLAP


class TestHalving:
    def test_down_to_the_floor(self):
        plan, tiles = plan_of(10**6, 55), []
        while smaller := plan.smaller(900, 1000):
            plan = smaller
            tiles.append((plan.tile, plan.overlap))
        assert tiles == [(500, 55), (250, 55), (125, 55), (62, 55), (48, 47)]

    def test_the_sample_shrinks_below_the_picture(self):
        """What did not fit whole is not sampled whole, either."""
        plan, samples = plan_of(10**6, 55), []
        while smaller := plan.smaller(300, 300):
            plan = smaller
            samples.append(plan.sample)
        assert samples == [22_500, plans.SMALLEST_SAMPLE, plans.SMALLEST_SAMPLE]

    def test_plain_forward_first_becomes_tiles(self):
        assert plan_of(0, 55).smaller(900, 1000).tile == 500

    @pytest.mark.parametrize("size", [(40, 40), (59, 47), (90, 94)])
    @pytest.mark.parametrize("tile", [0, 1, 48, 10**6])
    def test_small_pictures_have_no_tiles(self, size, tile):
        assert plan_of(tile, 47).smaller(*size) is None

    def test_small_tiles_stay(self):
        assert plan_of(48, 16).smaller(500, 500) is None
        assert plan_of(16, 8).smaller(500, 500) is None
