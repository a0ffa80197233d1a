"""The meta-deblur module against the paper's direct form, which builds weights for every pixel."""

import copy
import dataclasses

import pytest
import torch
import torch.nn.functional as F

from dmsr_cli.model.meta_deblur import MetaDeblur

SIZES = [(1, 1), (1, 13), (13, 1), (5, 7), (16, 19)]


def direct_form(module: MetaDeblur, image: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """Table B.7, rows 2-0 to 2-3 and 0-4: conv over picture and code, then a dynamic conv."""
    count, colours, height, width = image.shape
    code = module.embed(kernel.flatten(1))[:, :, None, None].expand(-1, -1, height, width)
    features = F.pad(torch.cat((image, code), dim=1), (1,) * 4, mode="replicate")
    weights = module.meta(features)  # (N, size^2, H, W)
    padded = F.pad(image, (module.size // 2,) * 4, mode="replicate")
    patches = F.unfold(padded, module.size).view(count, colours, -1, height, width)
    return (patches * weights.unsqueeze(1)).sum(dim=2)


def random_case(config, deblur_size, size, count=2):
    """A module with weights far from its start, and pictures with a different kernel each."""
    torch.manual_seed(0)
    module = MetaDeblur(dataclasses.replace(config, deblur_size=deblur_size))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.1)
    image, kernel = torch.rand(count, 3, *size), torch.rand(count, 15, 15) ** 4
    return module, image, kernel / kernel.sum(dim=(1, 2), keepdim=True)


def assert_near(actual: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal within 1e-5 of the largest value (float32 against the reference in float64)."""
    assert actual.dtype == torch.float32
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max() <= 1e-5 * max(1, expected.abs().max().item())


@pytest.mark.parametrize("deblur_size", [7, 15])
@pytest.mark.parametrize("size", SIZES)
def test_values_and_gradients(tiny_config, deblur_size, size):
    module, image, kernel = random_case(tiny_config(), deblur_size, size)
    reference = copy.deepcopy(module).double()
    inputs = [tensor.clone().requires_grad_() for tensor in (image, kernel)]
    exact = [tensor.double().requires_grad_() for tensor in (image, kernel)]
    actual, expected = module(*inputs), direct_form(reference, *exact)
    assert expected.abs().max() > 0.1
    assert_near(actual, expected)

    probe = torch.randn_like(actual)
    (actual * probe).sum().backward()
    (expected * probe.double()).sum().backward()
    pairs = [
        *zip(inputs, exact, strict=True),
        *zip(module.parameters(), reference.parameters(), strict=True),
    ]
    for left, right in pairs:
        assert right.grad.abs().max() > 0
        assert_near(left.grad, right.grad)


@torch.no_grad()
def test_each_picture_gets_its_own_kernel(tiny_config):
    module, image, kernel = random_case(tiny_config(), 7, (6, 8), count=3)
    image = image[:1].expand(3, -1, -1, -1)
    together = module(image, kernel)
    for index in range(3):
        alone = module(image[index : index + 1], kernel[index : index + 1])
        torch.testing.assert_close(together[index : index + 1], alone, atol=1e-5, rtol=1e-5)
    assert (together[0] - together[1]).abs().max() > 1e-4


@torch.no_grad()
def test_sizes_of_kernel_and_convolution_are_independent(tiny_config):
    torch.manual_seed(0)
    config = dataclasses.replace(tiny_config(), kernel_size=9, deblur_size=5, embedding=4)
    module = MetaDeblur(config)
    image, kernel = torch.rand(1, 3, 6, 7), torch.rand(1, 9, 9)
    expected = direct_form(copy.deepcopy(module).double(), image.double(), kernel.double())
    assert_near(module(image, kernel), expected)


@torch.no_grad()
def test_memory_layout_does_not_matter(tiny_config):
    module, image, kernel = random_case(tiny_config(), 7, (6, 8))
    channels_last = image.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(module(channels_last, kernel), module(image, kernel))


@torch.no_grad()
def test_reduced_precision_gives_float32(tiny_config):
    module, image, kernel = random_case(tiny_config(), 7, (6, 8))
    expected = module(image, kernel)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = module(image, kernel)
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual, expected, atol=0.02 * expected.abs().max().item(), rtol=0)


def test_the_code_starts_as_a_basis_of_the_training_kernels(tiny_config):
    basis = MetaDeblur(tiny_config()).embed.weight.double()
    torch.testing.assert_close(
        basis @ basis.t(), torch.eye(15, dtype=torch.float64), atol=1e-5, rtol=0
    )
