"""From a network to the bytes of ONNX files, without the exporter's chatter."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dmsr_cli import __version__
from dmsr_cli.errors import DmsrError
from dmsr_cli.export.plain import PlainExtractor, PlainRestorer
from dmsr_cli.files import reason_of
from dmsr_cli.model import DMSR

if TYPE_CHECKING:
    from onnx import ModelProto

PARTS = ("extractor", "restorer")
OPSETS = (18, 23)
"""First and last version of ONNX's operators that is written; PyTorch's exporter starts at 18."""
INPUTS = {"extractor": ("lr",), "restorer": ("lr", "kernel", "noise_map")}
OUTPUTS = {"extractor": ("kernel", "noise_map"), "restorer": ("sr",)}
INSTALL = 'pip install "dmsr-cli[onnx]"'


def plain_network(network: DMSR, part: str) -> nn.Module:
    """The extractor or the restorer of a network in the form that is exported."""
    if part == "extractor":
        return PlainExtractor(network.extractor).eval()
    return PlainRestorer(network.restorer).eval()


def example_inputs(network: DMSR, part: str, height: int, width: int) -> tuple[Tensor, ...]:
    """Two pictures of (height, width) with their degradations, always the same."""
    chance = torch.Generator().manual_seed(height * 10_000 + width)
    lr = torch.rand(2, 3, height, width, generator=chance)
    if part == "extractor":
        return (lr,)
    size = network.config.kernel_size
    logits = 3 * torch.randn(2, size**2, generator=chance)
    noise_map = 0.1 * torch.randn(2, 3, height, width, generator=chance)
    return lr, logits.softmax(dim=1).view(2, size, size), noise_map


def onnx_content(network: DMSR, part: str, opset: int, facts: Mapping[str, str]) -> bytes:
    """One part of a network (float32, on the CPU) as an ONNX file; batch and size are free.

    Args:
        network: the whole.
        part: one of `PARTS`.
        opset: version of ONNX's operators, in `OPSETS`.
        facts: what the file says about itself, its metadata_props.

    Raises:
        DmsrError: the packages are missing, or the exporter cannot do it.
    """
    _need_exporter()
    from torch.export import Dim

    batch, height, width = Dim("batch"), Dim("height"), Dim("width")
    picture, kernel = {0: batch, 2: height, 3: width}, {0: batch}
    shapes = (picture,) if part == "extractor" else (picture, kernel, picture)
    try:
        with _quiet():
            program: Any = torch.onnx.export(
                plain_network(network, part),
                example_inputs(network, part, 17, 23),
                dynamo=True,
                dynamic_shapes=shapes,
                input_names=INPUTS[part],
                output_names=OUTPUTS[part],
                opset_version=opset,
                verbose=False,
            )
    except Exception as error:  # its errors have no common base
        raise DmsrError(
            f"PyTorch {torch.__version__} cannot export the {part} to ONNX opset {opset} "
            f"({reason_of(error)[:120]}); try another --opset or a newer PyTorch"
        ) from error
    return _described(program.model_proto, facts)


def _described(model: ModelProto, facts: Mapping[str, str]) -> bytes:
    """The file of a model with these facts, without the paths of source code that were in it."""
    del model.metadata_props[:]
    for key, value in facts.items():
        model.metadata_props.add(key=key, value=value)
    model.producer_name, model.producer_version = "dmsr-cli", __version__
    graph = model.graph
    for thing in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info):
        del thing.metadata_props[:]
    for node in graph.node:
        node.doc_string = ""
    graph.name = facts["dmsr.model"]
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _need_exporter() -> None:
    try:
        import onnx  # noqa: F401 # the exporter imports both where it works
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise DmsrError(f"ONNX files need more packages ({reason_of(error)}): {INSTALL}") from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the exporter prints, warns of and logs from the user; errors still come."""
    log = logging.getLogger("torch")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
