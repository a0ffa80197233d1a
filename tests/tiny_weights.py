"""A tiny network with its weight file and its table, for the tests of weights."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import tempfile
from pathlib import Path

import pytest
import torch

from dmsr_cli import weights
from dmsr_cli.config import DMSRConfig
from dmsr_cli.errors import DmsrError
from dmsr_cli.model import DMSR

NAME = "tiny-x4"
REPO = "dmsr/tiny"
FILE = "tiny-x4.safetensors"
TINY = DMSRConfig(
    scale=4,
    channels=4,
    groups=1,
    blocks=1,
    reduction=2,
    upsampled_channels=4,
    extractor_channels=4,
    extractor_blocks=1,
    blur_channels=4,
)


def tiny_model(seed: int = 0, scale: int = 4) -> DMSR:
    torch.manual_seed(seed)
    return DMSR(dataclasses.replace(TINY, scale=scale)).eval()


@functools.cache
def tiny_content() -> bytes:
    """The bytes of a valid x4 weight file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / FILE
        weights.save_weights(tiny_model(), path)
        return path.read_bytes()


def table_text(content: bytes, **changes: object) -> str:
    """A weights.toml with one entry; `changes` replaces values, None leaves a key out."""
    values: dict[str, object] = {
        "repo": REPO,
        "file": FILE,
        "revision": "main",
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content),
        "scale": 4,
        "parameters": 1234,
        "license": "MIT",
        **changes,
    }
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items() if value is not None]
    config = [f"{key} = {value}" for key, value in dataclasses.asdict(TINY).items()]
    return "\n".join(
        [
            f"[models.{NAME}]",
            *lines,
            'psnr = { "Set5 [1.3, 15]" = 27 }',
            f"[models.{NAME}.config]",
            *config,
        ]
    )


def message(error: pytest.ExceptionInfo[DmsrError]) -> str:
    """The error's text, which must be one line of bearable length."""
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 400
    return text


def with_strong_attention(network: DMSR) -> DMSR:
    """Residuals that count, and gates that really differ from picture to picture."""
    with torch.no_grad():
        for group in network.restorer.groups:
            group.tail.weight.mul_(10)
            for block in group.blocks:
                block.conv2.weight.mul_(20)
                block.attention.squeeze.weight.mul_(10)
                block.attention.excite.weight.mul_(20)
        network.restorer.tail.weight.mul_(10)
    return network
