"""How a picture is restored: on which device, whole or in tiles, and how much memory that takes."""

from __future__ import annotations

import dataclasses
import itertools
import math
from dataclasses import dataclass

import torch

from dmsr_cli.config import DMSRConfig
from dmsr_cli.errors import DeviceError
from dmsr_cli.inference.pieces import BODY_PIXELS, ELSEWHERE, EXTRACTION_PIXELS, RENDER_PIXELS
from dmsr_cli.memory import free_memory
from dmsr_cli.model.meta_deblur import STRIP_PIXELS, WEIGHED_UP_TO
from dmsr_cli.tiling import spans

SMALLEST_TILE = 48
"""Tiles are not halved below this: they would be mostly overlap."""
LARGEST_OVERLAP = 96
"""LR pixels that tiles share at the most unless asked for more; what lies further counts little."""
CPU_BUDGET = 1 << 30
"""Bytes that the restoration of a picture takes on a CPU at the most, beside the pictures
themselves: a larger body is no faster there, and the memory belongs to others, too."""
SHARE = 0.8
"""Share of the free memory that is counted upon: allocators lose some, other processes come."""
SAMPLE_PIXELS = 2**18
"""LR pixels that the attention gates of a tiled picture are sampled from."""
SMALLEST_SAMPLE = 2**13
"""The fewest, where memory is short; the bound on what tiles change does not hold for these."""


@dataclass(frozen=True)
class Plan:
    """One way to restore a picture."""

    device: torch.device
    precision: torch.dtype
    tile: int
    """Side of a tile in LR pixels; 0 for the plain forward of the whole picture."""
    overlap: int
    """LR pixels that neighbouring tiles share, half of them on each side."""
    sample: int
    """LR pixels that the attention gates are sampled from if the picture is tiled."""

    def is_tiled(self, height: int, width: int) -> bool:
        """Whether a picture of that many LR pixels is cut."""
        return self.tile > 0 and self.tile + self.overlap < max(height, width)

    def smaller(self, height: int, width: int) -> Plan | None:
        """Tiles of half the side, a quarter of the sample, if a picture of that size has any."""
        side = self.tile if self.is_tiled(height, width) else max(height, width)
        tile = max(SMALLEST_TILE, side // 2)
        sample = max(SMALLEST_SAMPLE, min(self.sample, height * width) // 4)
        overlap = min(self.overlap, tile - 1)
        halved = dataclasses.replace(self, tile=tile, overlap=overlap, sample=sample)
        return halved if tile < side and halved.is_tiled(height, width) else None

    def __str__(self) -> str:
        """What a person reads."""
        return f"tiles of {self.tile} LR pixels on {self.device}"


@dataclass(frozen=True)
class Request:
    """What is asked for: a picture's size, and `upscale`'s arguments."""

    height: int
    width: int
    device: torch.device
    precision: torch.dtype
    tile: int | str
    overlap: int | None
    result_bytes: int
    """What the restored picture takes, in the system's memory."""


def overlap_for(config: DMSRConfig) -> int:
    """LR pixels that tiles share so that what is used of each saw all of its surroundings."""
    # 7/16 of an overlap is cut off at each of the two rims (tiling.blend_weights).
    radius = config.body_radius + config.render_radius
    return min(LARGEST_OVERLAP, math.ceil(radius * 16 / 7))


def choose_plan(config: DMSRConfig, request: Request) -> Plan:
    """The plan for a picture: what is asked, or the largest tiles that the memory allows.

    Raises:
        DeviceError: the free memory does not suffice for what is asked, or for anything.
    """
    size, device = (request.height, request.width), request.device
    room = free_memory(torch.device("cpu")) - request.result_bytes
    if room < 0:
        raise DeviceError(
            f"the result alone needs {_size(request.result_bytes)} of memory, and "
            f"{_size(room + request.result_bytes)} are free: use a smaller scale, or split "
            "the picture"
        )
    free = room if device.type == "cpu" else free_memory(device)
    budget = int(free * SHARE)
    if device.type == "cpu":
        budget = min(budget, CPU_BUDGET)

    def plan_of(side: int) -> Plan:
        shared = overlap_for(config) if request.overlap is None else request.overlap
        overlap = min(shared, side - 1) if side else shared
        plan = Plan(device, request.precision, side, overlap, SAMPLE_PIXELS)
        while plan.sample > SMALLEST_SAMPLE and _sample_bytes(plan, config, *size) > budget:
            plan = dataclasses.replace(plan, sample=plan.sample // 2)
        return plan

    def fits(plan: Plan, memory: int) -> bool:
        blend = 0 if device.type == "cpu" else _blend_bytes(plan, config.scale, *size)
        return bytes_needed(plan, config, *size) <= memory and blend <= room

    if isinstance(request.tile, int):
        plan = plan_of(request.tile)
        if not fits(plan, free):
            raise DeviceError(
                f"--tile {request.tile} needs about {_size(bytes_needed(plan, config, *size))} of "
                f"memory at {request.width}x{request.height}, and {_size(free)} are free: "
                "use --tile auto"
            )
        return plan
    for side in _sides(max(size)):
        plan = plan_of(side)
        if fits(plan, budget):
            return plan
    if not fits(plan, free):
        elsewhere = "close other programs" if device.type == "cpu" else "use --device cpu"
        raise DeviceError(
            f"even the smallest tiles need about {_size(bytes_needed(plan, config, *size))} of "
            f"memory on {device} at {request.width}x{request.height}, and {_size(free)} are free: "
            f"{elsewhere}"
        )
    return plan


def _sides(whole: int) -> list[int]:
    """Sides of tiles to try: the whole picture, then each an eighth smaller than the one before."""
    sides = [whole]
    while sides[-1] > SMALLEST_TILE:
        sides.append(max(SMALLEST_TILE, sides[-1] * 7 // 8))
    return sides


def bytes_needed(plan: Plan, config: DMSRConfig, height: int, width: int) -> int:
    """Largest number of bytes that a plan takes on its device, without the result itself.

    Counted from what the code keeps at a time; the tests hold it to what torch allocates, and
    benchmarks/memory.py shows what the process takes.
    """
    item = torch.finfo(plan.precision).bits // 8
    kind, pixels = plan.device.type, height * width
    features = config.channels * item
    if plan.tile == 0:
        return max(
            pixels * 6 * features, pixels * features + _render_bytes(config, item, kind, pixels)
        )
    extraction = _extractor_bytes(config) * EXTRACTION_PIXELS.get(kind, ELSEWHERE)
    if not plan.is_tiled(height, width):
        render = _render_piece_bytes(config, item, kind, pixels)
        return max(extraction, _body_bytes(config, item, kind, pixels), pixels * features + render)
    side = plan.tile + plan.overlap
    tile = min(side, height) * min(side, width)
    blend = _blend_bytes(plan, config.scale, height, width) if kind == "cpu" else 0
    sample = _sample_bytes(plan, config, height, width)
    body = _body_bytes(config, item, kind, tile)
    render = _render_piece_bytes(config, item, kind, tile)
    return max(extraction, sample, max(body, tile * features + render) + blend)


def _sample_bytes(plan: Plan, config: DMSRConfig, height: int, width: int) -> int:
    """The body of the patches that the attention gates come from."""
    item = torch.finfo(plan.precision).bits // 8
    return _body_bytes(config, item, plan.device.type, min(plan.sample, height * width))


def _blend_bytes(plan: Plan, scale: int, height: int, width: int) -> int:
    """Bands of sums across the picture, and tiles: all that `blend_tiles` keeps."""
    if not plan.is_tiled(height, width):
        return 0
    side = plan.tile + plan.overlap
    tile = min(side, height) * min(side, width)
    rows = itertools.pairwise(spans(max(height, width), side, plan.overlap))
    shared = max(stop - next_start for (_, stop), (next_start, _) in rows)
    bands = (side + shared) * min(height, width)
    # Of a tile: its pixels, one weight for all colours, and their product.
    return (3 * bands + 7 * tile) * scale**2 * 4


def _body_bytes(config: DMSRConfig, item: int, kind: str, pixels: int) -> int:
    """The body in pieces: four buffers of features, the inputs three times, and a piece."""
    features = config.channels * item
    piece = min(pixels, BODY_PIXELS.get(kind, pixels))
    return pixels * (4 * features + 3 * 6 * 4) + piece * 4 * features


def _render_piece_bytes(config: DMSRConfig, item: int, kind: str, pixels: int) -> int:
    """A piece that is rendered, with its halo, of `pixels` pixels in all."""
    side = math.isqrt(RENDER_PIXELS.get(kind, ELSEWHERE)) + 2 * config.render_radius
    return _render_bytes(config, item, kind, min(pixels, side**2))


def _render_bytes(config: DMSRConfig, item: int, kind: str, pixels: int) -> int:
    """Pixels that are rendered at a time: up-sampling first, then the meta-deblur module."""
    window = config.deblur_size
    hr_pixels = pixels * config.scale**2
    upsampling = (2 * config.upsampled_channels + 6) * item
    pictures = 4 * (27 + 12)  # the neighbours of each pixel, and the picture a few times
    if kind == "cpu":  # filters a strip at a time
        filtered, copies = min(hr_pixels, 2 * STRIP_PIXELS), 2
    else:  # all at once, with channels that are padded, and cut off again
        filtered, copies = hr_pixels, 3
    weighed = kind == "cpu" and window <= WEIGHED_UP_TO
    filtering = 4 * (window**2 if weighed else 3 * window + copies * 3 * 27)
    return max(hr_pixels * upsampling, hr_pixels * pictures + filtered * filtering)


def _extractor_bytes(config: DMSRConfig) -> int:
    """Of an LR pixel while the extractor sees it, always in fp32."""
    return 4 * (config.kernel_size**2 + 2 * config.blur_channels + 3 * config.extractor_channels)


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
