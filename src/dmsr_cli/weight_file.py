"""Weight files: a network with its configuration, as safetensors, with nothing taken on trust.

The header of the file carries the configuration of the network under `dmsr_config`, so that it
needs nothing beside it. torch is imported on first use.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import reprlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from dmsr_cli.config import DMSRConfig, from_mapping
from dmsr_cli.errors import SettingsError, WeightsError
from dmsr_cli.files import atomic_write, display_name, reason_of, sha256_of

if TYPE_CHECKING:
    import torch
    from torch.overrides import TorchFunctionMode

    from dmsr_cli.model import DMSR

MAX_HEADER_BYTES = 10 * 2**20
"""A longer safetensors header is refused before any memory is set aside for it."""
ONLY_SAFETENSORS = "only safetensors files are loaded, because a pickle can run any code"

_DTYPES = {"F16", "BF16", "F32"}


def verify_sha256(found: str, sha256: str, name: str, advice: str) -> None:
    """Refuse the file `name` whose SHA-256 was `found` if it is not what it must be."""
    if found != sha256:
        raise WeightsError(
            f"{name} is damaged or was changed, and is not used: SHA-256 {found[:12]}... "
            f"instead of {sha256[:12]}...; {advice}"
        )


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, 64 lower-case hexadecimal digits.

    Raises:
        WeightsError: the file cannot be read.
    """
    with _opened(path) as file:
        return sha256_of(file)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """A file to read from; what fails while it is open becomes a WeightsError."""
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise WeightsError(f"cannot read {display_name(path)}: {reason_of(error)}") from None


def read_config(path: Path) -> DMSRConfig:
    """The configuration of the network that a weight file is for, from its header alone.

    Raises:
        WeightsError: the file is missing, not safetensors, truncated, or not of this network.
    """
    with _opened(path) as file:
        return _config(path, _read_header(file, path))


def load_weights(path: Path, sha256: str | None = None) -> DMSR:
    """The network in a weight file: float32, on the CPU, in evaluation mode.

    Args:
        path: a safetensors file that `save_weights` wrote; float16, bfloat16 or float32.
        sha256: what the file's SHA-256 must be; None to skip the check.

    Raises:
        WeightsError: as `read_config`, or the hash, a name, a shape or a type differs from what
            the network has, or a value is not finite.
    """
    return load_hashed_weights(path, sha256)[0]


def load_hashed_weights(path: Path, sha256: str | None = None) -> tuple[DMSR, str]:
    """As `load_weights`, and the SHA-256 of the file that was loaded."""
    with _opened(path) as file:
        _config(path, _read_header(file, path))  # nothing else is read as a whole
        file.seek(0)
        content = file.read()
    # From here on the file may change: what was hashed is what is used.
    found = hashlib.sha256(content).hexdigest()
    if sha256 is not None:
        verify_sha256(found, sha256, display_name(path), "delete the file and fetch it again")
    header = _read_header(io.BytesIO(content), path)
    config = _config(path, header)
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    model = _new_model(path, config, header, len(content))
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise WeightsError(
            f"{display_name(path)} is damaged ({reason_of(error)}); fetch it again"
        ) from None
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise WeightsError(
                f"{display_name(path)}: {name} has values that are not finite; fetch it again"
            )
        tensors[name] = tensor.to(torch.float32)
    model.load_state_dict(tensors, assign=True)
    return model.eval(), found


def save_weights(
    model: DMSR,
    path: Path,
    *,
    dtype: torch.dtype | None = None,
    info: Mapping[str, Any] | None = None,
) -> None:
    """Write a network as a weight file, whole or not at all; equal weights give equal bytes.

    Args:
        model: the network; its state dict and its `config` are written.
        path: the .safetensors file to write or to replace.
        dtype: float16 (if None), bfloat16 or float32.
        info: facts about the training, as JSON can hold them, kept under `dmsr_info`.

    Raises:
        WeightsError: a value is not finite, or becomes so in `dtype`.
        DmsrError: the file cannot be written.
    """
    import torch
    from safetensors.torch import save

    dtype = dtype or torch.float16
    tensors = {
        name: tensor.detach().to("cpu", dtype).contiguous()
        for name, tensor in model.state_dict().items()
    }
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise WeightsError(
                f"{name} is not finite as {dtype}; {display_name(path)} was not written"
            )
    metadata = {"format": "pt", "dmsr_config": json.dumps(dataclasses.asdict(model.config))}
    if info is not None:
        metadata["dmsr_info"] = json.dumps(info, sort_keys=True)
    content = _with_sorted_metadata(save(tensors, metadata))
    with atomic_write(path) as temporary_path:
        temporary_path.write_bytes(content)


def _with_sorted_metadata(content: bytes) -> bytes:
    """The same safetensors file with its metadata in order: the library writes it in any order."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the tensors stay aligned
    return len(text).to_bytes(8, "little") + text + content[end:]


def _read_header(file: BinaryIO, path: Path) -> dict[str, Any]:
    """The header of a safetensors file, which is JSON, with its tensors' places checked."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    start = file.read(9)
    length = int.from_bytes(start[:8], "little")
    if len(start) < 9 or start[8:] != b"{" or not 2 <= length <= MAX_HEADER_BYTES:
        raise WeightsError(f"{display_name(path)} is not a safetensors file; {ONLY_SAFETENSORS}")
    text = start[8:] + file.read(length - 1)
    if 8 + length > size:
        raise WeightsError(f"{display_name(path)} is truncated; fetch it again")
    try:
        header = json.loads(text)
        tensors = [tensor for name, tensor in header.items() if name != "__metadata__"]
        end = 8 + length + max((tensor["data_offsets"][1] for tensor in tensors), default=0)
    except (ValueError, TypeError, LookupError, RecursionError):
        raise WeightsError(f"{display_name(path)} has a damaged header; fetch it again") from None
    if end != size:
        raise WeightsError(f"{display_name(path)} is truncated or damaged; fetch it again")
    return dict(header)


def _config(path: Path, header: Mapping[str, Any]) -> DMSRConfig:
    """The configuration in the header of `path`."""
    try:
        values = json.loads(header["__metadata__"]["dmsr_config"])
    except (ValueError, TypeError, LookupError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise WeightsError(
            f"{display_name(path)} is not a DMSR weight file: it has no valid dmsr_config"
        )
    try:
        return from_mapping(DMSRConfig, values, display_name(path))
    except SettingsError as error:
        raise WeightsError(f"{error}; a newer dmsr-cli may be able to read it") from None


def _element_limit(limit: int) -> TorchFunctionMode:
    """A mode in which making a network of more than `limit` elements raises ValueError."""
    import torch
    from torch.overrides import TorchFunctionMode

    class ElementLimit(TorchFunctionMode):
        elements = 0

        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            made = func(*args, **(kwargs or {}))
            if func is torch.empty:  # what layers make their weights with
                self.elements += made.numel()
                if self.elements > limit:
                    raise ValueError("it has more weights than the file")
            return made

    return ElementLimit()


def _new_model(path: Path, config: DMSRConfig, header: Mapping[str, Any], size: int) -> DMSR:
    """A network for the weights of a file of `size` bytes, whose header promises just those.

    The device "meta" would need no limit and no memory, but it makes PyTorch import its compiler,
    which takes longer than restoring a small picture.
    """
    import torch

    from dmsr_cli.model import DMSR

    shown = display_name(path)
    found = {name: tensor for name, tensor in header.items() if name != "__metadata__"}
    # A wild config is refused before it takes time, here, and before it takes memory, below.
    if config.groups * config.blocks > len(found):
        raise WeightsError(f"{shown}: has fewer tensors than its config has blocks; fetch it again")
    try:
        # No element takes less than a byte. The caller's random numbers go on as if nothing was.
        with torch.random.fork_rng(devices=[]), _element_limit(size):
            model = DMSR(config)
    except (RuntimeError, ValueError) as error:
        raise WeightsError(f"{shown}: its config makes no network ({reason_of(error)})") from None
    expected = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    for name, shape in expected.items():
        if name not in found:
            raise WeightsError(f"{shown}: the tensor {name} is missing; it is of another version")
        if found[name].get("shape") != shape:
            raise WeightsError(
                f"{shown}: {name} has the shape {reprlib.repr(found[name].get('shape'))}, "
                f"but its config needs {shape}"
            )
        if found[name].get("dtype") not in _DTYPES:
            raise WeightsError(
                f"{shown}: {name} is of type {reprlib.repr(found[name].get('dtype'))}; "
                f"only {', '.join(sorted(_DTYPES))} are loaded"
            )
    unknown = sorted(set(found) - set(expected))
    if unknown:
        raise WeightsError(f"{shown}: the network has no tensor {reprlib.repr(unknown[0])}")
    return model
