"""How the result answers to the blur kernel that it is told.

A network that always hears its own estimate need not listen: it sees the blur in the picture. Then
a kernel that a person gives changes nothing. So a law is agreed on for what a kernel means:

    sharpening by kernel k:  filter  1 + a(k) (1 - L),     a from -REACH (no blur) to REACH

L is a small low-pass filter, and a(k) grows with the mean radius of the kernel. The meta-deblur
module can do that with one number of its kernel code, for the law is linear in the kernel. The rest
of the network learns to leave exactly that much to it. What a picture blurred by t becomes when it
is told w follows from the law (`answer`), so that it can be trained.

The paper leaves the role of the code to the training. There it stays without effect: widths from
0.2 to 3.0 changed the filter's weights by less than one per cent (docs/experiments.md).
"""

from __future__ import annotations

import torch
from torch import Tensor

from dmsr_cli.degradation import gaussian_kernel

REACH = 0.5
"""How much of the finest detail a told kernel adds or takes away at most."""
MIDDLE_RADIUS = 1.9
"""Mean radius, in HR pixels, of the kernel that is passed as it is: that of width 1.5."""
LOW_PASS_SIZE = 7


def radii(size: int) -> Tensor:
    """Distance of each tap from the centre of a kernel (size, size), in HR pixels."""
    offsets = torch.arange(size) - size // 2
    return torch.hypot(offsets[:, None].float(), offsets[None, :].float())


def sharpening(kernel: Tensor) -> Tensor:
    """a(k) for kernels (N, K, K) that sum to 1: linear, from -REACH for no blur; (N,)."""
    radius = (kernel * radii(kernel.shape[-1]).to(kernel)).sum(dim=(1, 2))
    return REACH * (radius / MIDDLE_RADIUS - 1)


def low_pass(scale: int) -> Tensor:
    """L: a Gaussian as wide as the detail that the scale has lost, (7, 7), summing to 1."""
    return gaussian_kernel(min(0.6 * scale, 2.0), LOW_PASS_SIZE)[0]


def answer(image: Tensor, kernel: Tensor, told: Tensor, scale: int) -> Tensor:
    """What a picture should become when it was blurred by `kernel`, but `told` is said.

    The picture itself where both are the same, softer where less blur is told, sharper where more.

    Args:
        image: HR, (N, C, H, W); taken to repeat beyond its borders, so its margin is wrong.
        kernel: (N, K, K), what it was blurred with.
        told: (N, K, K).
        scale: of the network.

    Returns:
        (N, C, H, W), float32, may leave [0, 1].
    """
    size = image.shape[-2:]
    filters = torch.zeros(size, device=image.device)
    filters[:LOW_PASS_SIZE, :LOW_PASS_SIZE] = low_pass(scale).to(image.device)
    reach = LOW_PASS_SIZE // 2
    # Symmetric about the origin, its spectrum is real.
    high_pass = 1 - torch.fft.rfft2(filters.roll((-reach, -reach), (0, 1))).real
    wanted, present = (1 + sharpening(k).view(-1, 1, 1, 1) * high_pass for k in (told, kernel))
    spectrum = torch.fft.rfft2(image.float()) * (wanted / present)
    answered: Tensor = torch.fft.irfft2(spectrum, s=size)
    return answered
