"""The tensors of the network as its configuration has them, without making any.

A weight file is compared with this before memory is taken for a network. PyTorch's "meta" device
would tell the same, but imports its compiler, which takes longer than restoring a small picture.
"""

from __future__ import annotations

from collections.abc import Iterator

from dmsr_cli.config import DMSRConfig

Shape = tuple[int, ...]


def tensor_shapes(config: DMSRConfig) -> Iterator[tuple[str, Shape]]:
    """Name and shape of each tensor in the state dict of `DMSR(config)`, in its order."""
    for layer, weight in _layers(config):
        yield f"{layer}.weight", weight
        yield f"{layer}.bias", weight[:1]


def _layers(config: DMSRConfig) -> Iterator[tuple[str, Shape]]:
    """Name and shape of the weight of each layer; all of them have a bias for each output."""
    taps = config.kernel_size**2
    features = config.extractor_channels
    yield "extractor.head", (features, 3, 3, 3)
    for block in range(config.extractor_blocks):
        yield from _two_convs(f"extractor.blocks.{block}", features)
    yield "extractor.noise", (3, features, 3, 3)
    yield "extractor.blur1", (config.blur_channels, features, 3, 3)
    yield "extractor.blur2", (taps, config.blur_channels, 3, 3)

    channels, upsampled = config.channels, config.upsampled_channels
    yield "restorer.denoise", (channels, 6, 1, 1)
    yield "restorer.head", (channels, channels, 3, 3)
    for group in range(config.groups):
        for block in range(config.blocks):
            name = f"restorer.groups.{group}.blocks.{block}"
            yield from _two_convs(name, channels)
            squeezed = channels // config.reduction
            yield f"{name}.attention.squeeze", (squeezed, channels, 1, 1)
            yield f"{name}.attention.excite", (channels, squeezed, 1, 1)
        yield f"restorer.groups.{group}.tail", (channels, channels, 3, 3)
    yield "restorer.tail", (channels, channels, 3, 3)
    yield "restorer.upsample", (upsampled * config.scale**2, channels, 3, 3)
    yield "restorer.to_rgb", (3, upsampled, 3, 3)
    yield "restorer.deblur.embed", (config.embedding, taps)
    yield "restorer.deblur.meta", (config.deblur_size**2, 3 + config.embedding, 3, 3)
    yield "restorer.output", (3, 3, 3, 3)


def _two_convs(name: str, channels: int) -> Iterator[tuple[str, Shape]]:
    for conv in ("conv1", "conv2"):
        yield f"{name}.{conv}", (channels, channels, 3, 3)
