"""Carries out a plan, and finds another one when it fails."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dmsr_cli.device import autocast
from dmsr_cli.errors import DeviceError, WeightsError
from dmsr_cli.inference.attention import sampled_gates
from dmsr_cli.inference.pieces import ELSEWHERE, EXTRACTION_PIXELS, extracted, features_of, rendered
from dmsr_cli.inference.plan import Plan
from dmsr_cli.model import DMSR
from dmsr_cli.tiling import Box, blend_tiles

Pixels = NDArray[np.float32]
Note = Callable[[str], None]
Attempt = TypeVar("Attempt")
Result = TypeVar("Result")

BODY_SHARE = 0.7
"""Share of the progress that the body makes up when it is run whole."""
FEWEST_PIXELS = 2**12
"""LR pixels that the extractor is given at the least."""


@dataclass(frozen=True)
class Task:
    """A picture to restore, and what becomes of it."""

    network: DMSR
    device: torch.device
    """Where `network` is."""
    pixels: Pixels
    """LR picture (height, width, 3)."""
    kernel: Pixels
    """(K, K)."""
    noise_map: Pixels
    """(height, width, 3)."""
    emit: Callable[[Box, Pixels], None]
    """Takes restored pixels, which it may change, and their box in the result; a second attempt
    emits all again."""
    on_progress: Callable[[float], None]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in LR pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]


class NotFiniteError(ArithmeticError):
    """The network's result has values that are not finite."""


def estimate_maps(
    network: DMSR, device: torch.device, pixels: Pixels, on_note: Note
) -> tuple[Pixels, Pixels]:
    """Kernel (K, K) and noise map (height, width, 3) of a picture (height, width, 3).

    Raises:
        DeviceError: the memory does not suffice.
        WeightsError: the result is not finite.
    """
    counts = [EXTRACTION_PIXELS.get(device.type, ELSEWHERE)]
    while counts[-1] > FEWEST_PIXELS:
        counts.append(counts[-1] // 2)
    attempts = [(device, count) for count in counts]
    if device.type != "cpu":
        attempts.append((torch.device("cpu"), EXTRACTION_PIXELS["cpu"]))

    def work(attempt: tuple[torch.device, int]) -> tuple[Pixels, Pixels]:
        where, count = attempt
        extractor = _moved(network, device, where).extractor
        height, width = pixels.shape[:2]
        logits = np.zeros(extractor.kernel_size**2)
        noise_map = np.empty_like(pixels)
        pieces = extracted(
            extractor, height, width, lambda box: _to_tensor(pixels, box, where), count
        )
        for box, sums, noise in pieces:
            logits += sums.cpu().numpy()
            noise_map[box.rows, box.columns] = _to_pixels(noise)
        mean = torch.from_numpy((logits / (height * width)).astype(np.float32))
        kernel: Pixels = extractor.kernel_of(mean.unsqueeze(0))[0].numpy()
        if not (np.isfinite(kernel).all() and np.isfinite(noise_map).all()):
            raise _weights_error()
        return kernel, noise_map

    return _first_that_fits(
        attempts, work, lambda attempt: f"{attempt[1]} pixels at a time on {attempt[0]}", on_note
    )


def restore(task: Task, plan: Plan, on_cpu: Callable[[], Plan], on_note: Note) -> None:
    """Restore a picture as planned, or in smaller tiles, in the end on the CPU, if need be.

    Args:
        task: the picture.
        plan: from `choose_plan`, for the task's device.
        on_cpu: makes the plan that comes last, where that device is not the CPU.
        on_note: called with a line for people before each further attempt.

    Raises:
        DeviceError: the memory does not suffice.
        WeightsError: the result is not finite, even in fp32.
    """
    plans: list[Plan | None] = [plan]
    while smaller := plan.smaller(*task.size):
        plans.append(plan := smaller)
    if task.device.type != "cpu":
        plans.append(None)

    def work(chosen: Plan | None) -> None:
        plan = chosen or on_cpu()
        network = _moved(task.network, task.device, plan.device)
        _attempt_finite(
            dataclasses.replace(task, network=network, device=plan.device), plan, on_note
        )

    _first_that_fits(plans, work, lambda plan: str(plan or "the CPU"), on_note)


def _first_that_fits(
    attempts: Sequence[Attempt],
    work: Callable[[Attempt], Result],
    describe: Callable[[Attempt], str],
    on_note: Note,
) -> Result:
    """The result of the first attempt that does not run out of memory."""
    for number, attempt in enumerate(attempts, start=1):
        try:
            return work(attempt)
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
        # The exception is gone by now, and with it all that its frames held.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if torch.backends.mps.is_available():
            torch.mps.empty_cache()
        if number < len(attempts):
            on_note(f"out of memory: trying again with {describe(attempts[number])}")
    raise DeviceError("out of memory, even in the smallest pieces: close other programs")


def _is_out_of_memory(error: Exception) -> bool:
    of_memory = isinstance(error, torch.OutOfMemoryError | MemoryError)
    # Allocators (the CPU's has other words on Windows), drivers and libraries have words of their
    # own for it: MPS and a failing CUDA call say "out of memory", cuDNN and cuBLAS "ALLOC_FAILED".
    words = (
        *("out of memory", "can't allocate memory", "not enough memory"),
        *("could not create a memory", "STATUS_ALLOC_FAILED"),
    )
    return of_memory or any(text in str(error) for text in words)


def _attempt_finite(task: Task, plan: Plan, on_note: Note) -> None:
    """An attempt that is repeated in fp32 if reduced precision overflowed."""
    try:
        _attempt(task, plan)
    except NotFiniteError:
        if plan.precision == torch.float32:
            raise _weights_error() from None
    else:
        return
    on_note("the result was not finite in reduced precision: restoring again in fp32")
    _attempt_finite(task, dataclasses.replace(plan, precision=torch.float32), on_note)


def _weights_error() -> WeightsError:
    return WeightsError(
        "the network's result is not finite: its weights or the picture's values are out of "
        "bounds; try another --model"
    )


def _attempt(task: Task, plan: Plan) -> None:
    with autocast(plan.device, plan.precision):
        if plan.tile == 0:
            _restore_plainly(task)
        elif plan.is_tiled(*task.size):
            _restore_tiles(task, plan)
        else:
            _restore_whole(task)


def _restore_plainly(task: Task) -> None:
    """The plain forward, all at once: what everything else is held to."""
    height, width = task.size
    whole = Box(0, 0, height, width)
    lr, noise_map = _inputs(task, whole)
    restored = task.network.restorer(lr, _kernel(task), noise_map)
    task.emit(whole.scaled(task.network.config.scale), _finite(restored))
    task.on_progress(1)


def _restore_whole(task: Task) -> None:
    """The features of the whole picture at once, the rest in pieces: equal to the plain forward."""
    height, width = task.size
    restorer, pixels = task.network.restorer, height * width
    features, _ = features_of(
        restorer,
        *_inputs(task, Box(0, 0, height, width)),
        on_progress=lambda done: task.on_progress(BODY_SHARE * done),
    )
    rendered_pixels = 0
    for box, picture in rendered(restorer, features, _kernel(task)):
        task.emit(box, _finite(picture))
        rendered_pixels += box.height * box.width
        done = rendered_pixels / (pixels * restorer.scale**2)
        task.on_progress(1 if done == 1 else BODY_SHARE + (1 - BODY_SHARE) * done)


def _restore_tiles(task: Task, plan: Plan) -> None:
    """Tile by tile, with attention gates that are the same for all of them."""
    height, width = task.size
    restorer, kernel = task.network.restorer, _kernel(task)
    gates = sampled_gates(restorer, height, width, partial(_inputs, task), plan.sample)

    def restore_tile(box: Box) -> Pixels:
        features, _ = features_of(restorer, *_inputs(task, box), gates)
        size = (box.height * restorer.scale, box.width * restorer.scale, 3)
        result = np.empty(size, np.float32)
        for part, picture in rendered(restorer, features, kernel):
            result[part.rows, part.columns] = _finite(picture)
        return result

    blend_tiles(
        *(height, width, plan.tile + plan.overlap, plan.overlap, restorer.scale),
        *(restore_tile, task.emit, task.on_progress),
    )


def _moved(network: DMSR, here: torch.device, there: torch.device) -> DMSR:
    """The network on another device; the one that was given stays where it is."""
    if here == there:
        return network
    # No copy is made where the network is: there is no memory left when it comes to this.
    moved = {
        id(parameter): nn.Parameter(parameter.to(there), parameter.requires_grad)
        for parameter in network.parameters()
    }
    return copy.deepcopy(network, moved).to(there)


def _inputs(task: Task, box: Box) -> tuple[Tensor, Tensor]:
    """LR picture and noise map of a box: only what is needed travels to the device."""
    return _to_tensor(task.pixels, box, task.device), _to_tensor(task.noise_map, box, task.device)


def _kernel(task: Task) -> Tensor:
    return _as_tensor(task.kernel).to(task.device).unsqueeze(0)


def _to_tensor(pixels: Pixels, box: Box, device: torch.device) -> Tensor:
    """A box of an (h, w, 3) array as a (1, 3, h, w) tensor in channels-last memory."""
    part = _as_tensor(pixels[box.rows, box.columns])
    return part.to(device).permute(2, 0, 1).unsqueeze(0)


def _as_tensor(array: Pixels) -> Tensor:
    """A tensor of an array, copied only if torch does not take its strides or its being locked."""
    return torch.from_numpy(np.require(array, requirements=("C_CONTIGUOUS", "WRITEABLE")))


def _to_pixels(tensor: Tensor) -> Pixels:
    """(1, 3, h, w) tensor to an (h, w, 3) float32 array."""
    array: Pixels = tensor[0].permute(1, 2, 0).float().cpu().numpy()
    return array


def _finite(restored: Tensor) -> Pixels:
    pixels = _to_pixels(restored)
    if not np.isfinite(pixels).all():
        raise NotFiniteError
    return pixels
