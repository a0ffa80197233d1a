"""Whether an exported file gives what PyTorch gives."""

from __future__ import annotations

import torch

from dmsr_cli.errors import DmsrError
from dmsr_cli.export.onnx_model import INPUTS, INSTALL, example_inputs
from dmsr_cli.files import reason_of
from dmsr_cli.model import DMSR

TOLERANCE = 1e-4
"""Largest difference that is let pass, in values of which 0 to 1 is black to white."""
SIZES = ((17, 23), (32, 32), (41, 19), (1, 5))
"""Heights and widths that are compared."""


@torch.inference_mode()
def largest_difference(content: bytes, network: DMSR, part: str) -> float:
    """The largest absolute difference of onnxruntime from PyTorch, over some sizes.

    Args:
        content: an ONNX file from `onnx_content`.
        network: what it was made from.
        part: of that network.

    Raises:
        DmsrError: onnxruntime is missing or cannot run the file, or the difference is too large.
    """
    try:
        import onnxruntime  # type: ignore[import-untyped] # it has no types
    except ImportError as error:
        raise DmsrError(f"--check needs onnxruntime ({reason_of(error)}): {INSTALL}") from None
    largest = 0.0
    try:
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        for size in SIZES:
            inputs = example_inputs(network, part, *size)
            named = dict(zip(INPUTS[part], (each.numpy() for each in inputs), strict=True))
            found = map(torch.from_numpy, session.run(None, named))
            for theirs, ours in zip(found, _original(network, part, inputs), strict=True):
                if theirs.shape != ours.shape:
                    raise DmsrError(f"the exported {part} gives {theirs.shape}, not {ours.shape}")
                largest = max(largest, (theirs - ours).abs().max().item())
    except DmsrError:
        raise
    except Exception as error:  # its errors have no common base
        raise DmsrError(
            f"onnxruntime cannot run the exported {part} ({reason_of(error)[:120]}); "
            "nothing was written; try another --opset"
        ) from error
    if not largest < TOLERANCE:
        raise DmsrError(
            f"the exported {part} differs from the network by {largest:.1e}, which is more than "
            f"{TOLERANCE:g}; nothing was written; try another --opset"
        )
    return largest


def _original(
    network: DMSR, part: str, inputs: tuple[torch.Tensor, ...]
) -> tuple[torch.Tensor, ...]:
    """What the network itself gives, in its fast form."""
    if part == "extractor":
        return tuple(network.extractor(*inputs))
    return (network.restorer(*inputs),)
