"""Muon for the convolutions, Adam for the rest: fewer steps to the same quality.

Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024); the size of
a step is that of Liu et al., "Muon is Scalable for LLM Training" (2025, section 2.2), so that the
learning rates of Adam fit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
ROUNDS = 5
"""Of the iteration that makes a matrix nearly orthogonal."""
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of its polynomial: singular values come to lie between about 0.7 and 1.2, which is enough."""
STEP = 0.2
"""Root mean square of a step, in learning rates: what Adam's usually is."""
MIN_ROWS, MIN_COLUMNS = 8, 27
"""Smaller matrices, such as the first and the last layers', are vectors rather."""


def is_matrix(parameter: nn.Parameter) -> bool:
    """A convolution's weights, which Muon takes for a matrix of outputs by inputs and taps."""
    return (
        parameter.ndim == 4
        and parameter.shape[0] >= MIN_ROWS
        and parameter[0].numel() >= MIN_COLUMNS
    )


class Muon(torch.optim.Optimizer):
    """Steps along the momentum, made orthogonal: all its directions count alike.

    All parameters are convolutions' weights of four dimensions. Those of one shape are stepped
    together, because a device with much to spare waits for the many small products otherwise.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float) -> None:
        """As all optimizers of torch: groups of "params", and a learning rate."""
        super().__init__(groups, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]  # no closure is used here
        """Change all parameters that have a gradient."""
        for group in self.param_groups:
            alike = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike[parameter.shape].append(parameter)
            for shape, parameters in alike.items():
                directions = orthogonal(torch.stack([self._direction(one) for one in parameters]))
                sides = shape[0], shape[1:].numel()
                for parameter, direction in zip(parameters, directions, strict=True):
                    size = group["lr"] * STEP * max(sides) ** 0.5
                    parameter.add_(direction.view(shape), alpha=-size)

    def _direction(self, parameter: Tensor) -> Tensor:
        """The gradient and its momentum, as Nesterov has them: outputs x (inputs x taps)."""
        state, gradient = self.state[parameter], parameter.grad
        assert gradient is not None, "the caller asked"
        if not state:
            state["momentum"] = torch.zeros_like(gradient)
        momentum: Tensor = state["momentum"].lerp_(gradient, 1 - MOMENTUM)
        direction: Tensor = gradient.lerp(momentum, MOMENTUM).flatten(1)
        return direction


def orthogonal(matrices: Tensor) -> Tensor:
    """Nearly U V^T of U S V^T for each matrix: count x rows x columns, float32, any scale."""
    first, third, fifth = COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    found: Tensor = matrices.mT if tall else matrices
    found = found / (torch.linalg.vector_norm(found, dim=(1, 2), keepdim=True) + 1e-12)
    for _ in range(ROUNDS):
        square = found @ found.mT
        found = first * found + (third * square + fifth * square @ square) @ found
    return found.mT if tall else found


class MuonAndAdam:
    """Both, with the face of one optimizer."""

    def __init__(
        self, groups: Iterable[dict[str, Any]], slow: Iterable[dict[str, Any]], lr: float
    ) -> None:
        """Of `groups`, what `is_matrix` goes to Muon; the rest, and `slow`, goes to Adam."""
        matrices, others = [], list(slow)
        for group in groups:
            chosen = [one for one in group["params"] if is_matrix(one)]
            rest = [one for one in group["params"] if not is_matrix(one)]
            matrices.append({**group, "params": chosen})
            others.append({**group, "params": rest})
        self._both = Muon(matrices, lr), torch.optim.Adam(others, lr=lr, fused=True)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Of both: a change of their learning rates is a change of the optimizers'."""
        return [group for one in self._both for group in one.param_groups]

    def step(self) -> None:
        """Change all parameters that have a gradient."""
        for one in self._both:
            one.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for one in self._both:
            one.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """All that steps change."""
        return {"both": [one.state_dict() for one in self._both]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after a `state_dict`; raises what torch raises when it does not fit."""
        for one, its in zip(self._both, state["both"], strict=True):
            one.load_state_dict(its)
