"""One step: losses, gradients, clipping, the optimizer, and the averaged weights."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dmsr_cli.degradation import PatchDegradation
from dmsr_cli.device import autocast, move
from dmsr_cli.files import reason_of
from dmsr_cli.model import DMSR, Degradation
from dmsr_cli.training.acceleration import CapturedGradients, compile_regions
from dmsr_cli.training.data import Batch
from dmsr_cli.training.distributed import World
from dmsr_cli.training.losses import (
    Losses,
    consistency_loss,
    degradation_loss,
    kernel_consistency_loss,
    reconstruction_loss,
)
from dmsr_cli.training.muon import MuonAndAdam
from dmsr_cli.training.settings import TrainingSettings


class Stepper:
    """The model, its average, its optimizer, and how one batch changes them.

    Nothing in a step waits for the device: what it finds out stays there, until it is asked for.
    """

    def __init__(
        self,
        model: DMSR,
        settings: TrainingSettings,
        device: torch.device,
        precision: torch.dtype,
        world: World,
    ) -> None:
        self.settings = settings
        self.world = world
        self.model = move(model, device)
        self.model.extractor.requires_grad_(not settings.frozen_extractor)
        self.average = move(DMSR(model.config), device)
        self.average.load_state_dict(self.model.state_dict())
        self.parts = _Parts.of(self.model)
        self.optimizer = _optimizer(self.parts, settings)
        self.objective: nn.Module = Objective(self.model, settings, precision)
        self.captured: CapturedGradients | None = None
        self.fast = settings.compile and device.type == "cuda"
        if self.fast:
            compile_regions(self.model)
        if world.size > 1:
            devices = [device] if device.type == "cuda" else None
            self.objective = DistributedDataParallel(self.objective, device_ids=devices)
        self.sound = torch.tensor(True, device=device)
        self.sound_steps = torch.tensor(0, device=device)

    def __call__(self, batch: Batch, iteration: int, rate: float) -> Losses:
        """Learn from one batch at this learning rate; `iteration` counts from 1."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        losses, total = self._gradients(batch)
        if self.settings.gradient_clip:
            for part in self.parts:
                nn.utils.clip_grad_norm_(part, self.settings.gradient_clip)
        self.optimizer.step()
        if self.world.leads:
            _update_average(self.average, self.model, self.settings.ema, iteration)
        self.sound.logical_and_(total.isfinite())
        self.sound_steps.add_(self.sound)
        return losses

    def steps_before_trouble(self) -> int | None:
        """How many steps had a finite loss, if one had not; else None. Waits for the device."""
        return None if self.sound.item() else int(self.sound_steps)

    def state(self) -> dict[str, Any]:
        """All that a step changes, for a checkpoint."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on after a `state`; raises what torch raises when it does not fit."""
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])

    def _gradients(self, batch: Batch) -> tuple[Losses, Tensor]:
        if self.fast and self.world.size == 1:
            try:
                if self.captured is None:
                    self.captured = CapturedGradients(self._backward, self.optimizer, batch)
                return self.captured(batch)
            except RuntimeError as error:
                if self.captured is not None:
                    raise
                self.fast = False
                warnings.warn(f"steps go without a CUDA graph: {reason_of(error)}", stacklevel=2)
        self.optimizer.zero_grad(set_to_none=True)
        return self._backward(batch)

    def _backward(self, batch: Batch) -> tuple[Losses, Tensor]:
        losses: Losses = self.objective(batch)
        total = weighted(losses, self.settings)
        total.backward()  # type: ignore[no-untyped-call] # torch has not typed it
        return losses, total.detach()


class Objective(nn.Module):
    """Everything between a batch and its losses."""

    def __init__(self, model: DMSR, settings: TrainingSettings, precision: torch.dtype) -> None:
        super().__init__()
        self.model = model
        self.settings = settings
        self.precision = precision
        self.patch_degradation = PatchDegradation(model.config.scale, model.config.kernel_size)

    def forward(self, batch: Batch) -> Losses:
        """The loss terms of equation 5; of equations 7 and 8, those with weight 0 are left out."""
        settings = self.settings
        lr = batch.lr.contiguous(memory_format=torch.channels_last)
        with autocast(lr.device, self.precision):
            estimated: Degradation = self.model.extractor(lr)
            kernel = torch.where(batch.is_told, batch.told, estimated.kernel)
            restored, _ = self.model(lr, Degradation(kernel, estimated.noise_map))
        reconstruction = reconstruction_loss(restored, batch.hr, settings.reconstruction_error)
        degradation = consistency = kernel_consistency = reconstruction.new_zeros(())
        if settings.degradation_weight:
            degradation = degradation_loss(estimated, batch.degradation)
        if settings.consistency_weight or settings.kernel_consistency_weight:
            clean = self.patch_degradation.downsample(batch.prefiltered, estimated.kernel)
            simulated_lr = clean + estimated.noise_map
            if settings.consistency_weight:
                consistency = consistency_loss(simulated_lr, batch.lr)
            if settings.kernel_consistency_weight:
                with autocast(lr.device, self.precision):
                    simulated: Degradation = self.model.extractor(
                        simulated_lr.contiguous(memory_format=torch.channels_last)
                    )
                kernel_consistency = kernel_consistency_loss(simulated, estimated)
        return Losses(reconstruction, degradation, consistency, kernel_consistency)


def weighted(losses: Losses, settings: TrainingSettings) -> Tensor:
    """Equation 5."""
    return (
        settings.reconstruction_weight * losses.reconstruction
        + settings.degradation_weight * losses.degradation
        + settings.consistency_weight * losses.consistency
        + settings.kernel_consistency_weight * losses.kernel_consistency
    )


class _Parts(NamedTuple):
    """Parameters whose gradients differ so much in size that each part is clipped by itself."""

    extractor: list[nn.Parameter]
    body: list[nn.Parameter]
    deblur: list[nn.Parameter]
    """What makes the last convolutions' weights: the loudest gradients and the slowest rate."""

    @classmethod
    def of(cls, model: DMSR) -> _Parts:
        restorer = model.restorer
        deblur = [*restorer.deblur.meta.parameters(), *restorer.output.parameters()]
        slow = {id(parameter) for parameter in deblur}
        body = [parameter for parameter in restorer.parameters() if id(parameter) not in slow]
        extractor = [one for one in model.extractor.parameters() if one.requires_grad]
        return cls(extractor, body, deblur)


def _optimizer(parts: _Parts, settings: TrainingSettings) -> torch.optim.Optimizer | MuonAndAdam:
    """Has a rate of its own for what makes the last convolution's weights."""
    groups = [
        {"params": [*parts.extractor, *parts.body], "factor": 1.0},
        {"params": parts.deblur, "factor": settings.deblur_rate},
    ]
    if settings.optimizer == "muon":
        return MuonAndAdam(groups[:1], groups[1:], settings.learning_rate)
    return torch.optim.Adam(groups, lr=settings.learning_rate, fused=True)


@torch.no_grad()
def _update_average(average: nn.Module, model: nn.Module, decay: float, iteration: int) -> None:
    """Exponential moving average; short-sighted at first, so that the start is forgotten."""
    decay = min(decay, (1 + iteration) / (10 + iteration))
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
