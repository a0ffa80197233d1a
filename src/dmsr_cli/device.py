"""Where to compute, and with which precision."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from dmsr_cli.errors import MissingDeviceError, SettingsError

Network = TypeVar("Network", bound=nn.Module)

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def choose_device(name: str = "auto") -> torch.device:
    """The device called `name`; "auto" takes CUDA, then Apple's MPS, then the CPU.

    Raises:
        MissingDeviceError: that device is not there.
        SettingsError: `name` is not a device's name.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise SettingsError(f"unknown device {name!r}: use auto, cpu, cuda, cuda:N or mps")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            found = f"only {count} CUDA device(s) found" if count else "no CUDA device found"
            raise MissingDeviceError(f"device {name} is not available: {found}; use --device cpu")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise MissingDeviceError("device mps is not available on this machine; use --device cpu")
    return device


def choose_precision(name: str, device: torch.device, training: bool = False) -> torch.dtype:
    """The dtype called `name`; "auto" is bf16 where the device has it in hardware, else fp32.

    On a CPU "auto" is bf16 for training alone, where the time counts; a restored picture is the
    same whatever CPU it was restored on.

    Raises:
        SettingsError: `name` is not a precision's name.
        MissingDeviceError: the device does not compute in that precision.
    """
    if name == "auto":
        fast = _has_bf16(device) and (training or device.type != "cpu")
        return torch.bfloat16 if fast else torch.float32
    if name not in PRECISIONS:
        raise SettingsError(f"unknown precision {name!r}: use auto, {', '.join(PRECISIONS)}")
    if name == "bf16" and device.type == "cuda" and not _has_bf16(device):
        raise MissingDeviceError(f"{device} has no bf16 arithmetic: use --precision fp16 or fp32")
    return PRECISIONS[name]


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    # Releases of PyTorch without this function are the ones that cannot tell.
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    names = ("avx512_bf16", "amx_bf16")
    return device.type == "cpu" and any(capabilities.get(name) for name in names)


def autocast(device: torch.device, precision: torch.dtype) -> torch.autocast:
    """Run convolutions in `precision`; does nothing for fp32."""
    return torch.autocast(device.type, dtype=precision, enabled=precision != torch.float32)


def move(network: Network, device: torch.device) -> Network:
    """Put a network on a device, weights in channels-last memory, which convolutions like best."""
    return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return] # torch's stubs lack the keyword
