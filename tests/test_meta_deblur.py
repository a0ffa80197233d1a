"""The meta-deblur module against the paper's direct form, which builds weights for every pixel."""

import copy
import dataclasses

import pytest
import torch
import torch.nn.functional as F

from dmsr_cli.model import dynamic_convolution as dynamic_convolution_module
from dmsr_cli.model import meta_deblur
from dmsr_cli.model.dynamic_convolution import dynamic_convolution
from dmsr_cli.model.meta_deblur import WEIGHED_UP_TO, MetaDeblur

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


def count_weighed(monkeypatch) -> list[int]:
    """A list that grows when weights are made for each pixel."""
    calls = []

    def watched(padded, weights):
        calls.append(weights.shape[1])
        return dynamic_convolution(padded, weights)

    monkeypatch.setattr(meta_deblur, "dynamic_convolution", watched)
    return calls


@pytest.mark.parametrize("deblur_size", [7, 15])
@pytest.mark.parametrize("strip_pixels", [1, 40, 10_000])
@pytest.mark.parametrize("size", SIZES)
def test_strips_without_gradients(tiny_config, monkeypatch, deblur_size, strip_pixels, size):
    module, image, kernel = random_case(tiny_config(), deblur_size, size)
    expected = direct_form(copy.deepcopy(module).double(), image.double(), kernel.double())
    monkeypatch.setattr(meta_deblur, "STRIP_PIXELS", strip_pixels)
    applied, original = [], MetaDeblur._filter

    def watched(self, padded, neighbours, constant):
        applied.append(neighbours.shape[-2])
        return original(self, padded, neighbours, constant)

    monkeypatch.setattr(MetaDeblur, "_filter", watched)
    with torch.no_grad():
        assert_near(module(image, kernel), expected)
    rows = max(1, strip_pixels // (2 * size[1]))
    assert sum(applied) == size[0]
    assert max(applied) == min(rows, size[0])


# On the CPU, 7 makes the weights and 15 does not; on other devices neither does.
@pytest.mark.parametrize(("deblur_size", "weighed_up_to"), [(7, 9), (15, 9), (7, 0)])
@pytest.mark.parametrize("size", SIZES)
def test_values_and_gradients(tiny_config, monkeypatch, deblur_size, weighed_up_to, size):
    monkeypatch.setattr(meta_deblur, "WEIGHED_UP_TO", weighed_up_to)
    calls = count_weighed(monkeypatch)
    module, image, kernel = random_case(tiny_config(), deblur_size, size)
    reference = copy.deepcopy(module).double()
    inputs = [tensor.clone().requires_grad_() for tensor in (image, kernel)]
    exact = [tensor.double().requires_grad_() for tensor in (image, kernel)]
    actual, expected = module(*inputs), direct_form(reference, *exact)
    assert calls == ([deblur_size**2] if deblur_size <= weighed_up_to else [])
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


def test_which_form_is_used(tiny_config, monkeypatch):
    calls = count_weighed(monkeypatch)
    assert WEIGHED_UP_TO == 9  # the sizes above are on both sides of it
    for deblur_size, weighed in ((9, [81]), (11, [])):
        module, image, kernel = random_case(tiny_config(), deblur_size, (5, 7))
        module(image, kernel)
        assert calls == weighed
        calls.clear()


@pytest.mark.cuda
@torch.no_grad()
def test_cuda_never_makes_the_weights(tiny_config, monkeypatch):
    calls = count_weighed(monkeypatch)
    module, image, kernel = random_case(tiny_config(), 7, (5, 7))
    expected = direct_form(copy.deepcopy(module).double(), image.double(), kernel.double())
    actual = module.cuda()(image.cuda(), kernel.cuda()).cpu()
    assert calls == []
    # Convolutions in TF32, if they are, keep 10 bits.
    torch.testing.assert_close(actual.double(), expected, atol=1e-2, rtol=1e-2)


class TestDynamicConvolution:
    """Its gradients are its own; here with all pictures at once, two at a time, and one."""

    @pytest.fixture(autouse=True, params=[2**15, 40, 1])
    def _cached_pixels(self, request, monkeypatch):
        monkeypatch.setattr(dynamic_convolution_module, "CACHED_PIXELS", request.param)

    def case(self, size, height, width, count=3, channels=3):
        torch.manual_seed(0)
        padded = torch.randn(count, channels, height + size - 1, width + size - 1)
        return padded.double(), torch.randn(count, size**2, height, width).double()

    @pytest.mark.parametrize(
        ("size", "height", "width", "channels"),
        [(1, 1, 1, 1), (1, 3, 2, 3), (3, 1, 1, 3), (3, 4, 5, 1), (3, 2, 5, 2), (5, 1, 3, 2)],
    )
    def test_gradients(self, size, height, width, channels):
        inputs = self.case(size, height, width, channels=channels)
        assert torch.autograd.gradcheck(
            dynamic_convolution, [tensor.requires_grad_() for tensor in inputs]
        )

    @pytest.mark.parametrize("size", [1, 3, 7])
    def test_values(self, size):
        padded, weights = self.case(size, 5, 4)
        windows = padded.unfold(2, size, 1).unfold(3, size, 1)  # (N, C, H, W, size, size)
        expected = torch.einsum("ncyxij,nijyx->ncyx", windows, weights.unflatten(1, (size, size)))
        torch.testing.assert_close(dynamic_convolution(padded, weights), expected)

    def test_float32_stays_float32(self):
        inputs = [tensor.float().requires_grad_() for tensor in self.case(3, 4, 5)]
        result = dynamic_convolution(*inputs)
        result.sum().backward()
        assert {tensor.dtype for tensor in (result, *(each.grad for each in inputs))} == {
            torch.float32
        }

    def test_memory_layout_does_not_matter(self):
        padded, weights = self.case(3, 4, 5)
        plain = dynamic_convolution(padded, weights)
        layout = {"memory_format": torch.channels_last}
        other = [tensor.contiguous(**layout).requires_grad_() for tensor in (padded, weights)]
        result = dynamic_convolution(*other)
        torch.testing.assert_close(result, plain)
        # As is the gradient that comes back, whatever comes after.
        probe = torch.randn_like(result)
        first = torch.autograd.grad(result, other, probe, retain_graph=True)
        second = torch.autograd.grad(result, other, probe.contiguous(**layout))
        for left, right in zip(first, second, strict=True):
            torch.testing.assert_close(left, right)

    def test_only_what_is_wanted(self):
        """A picture that needs no gradient, as in a given degradation, is no error."""
        padded, weights = self.case(3, 4, 5)
        (gradient,) = torch.autograd.grad(
            dynamic_convolution(padded, weights.requires_grad_()).sum(), weights
        )
        windows = padded.unfold(2, 3, 1).unfold(3, 3, 1).sum(dim=1)  # (N, H, W, 3, 3)
        expected = windows.permute(0, 3, 4, 1, 2).flatten(1, 2)
        torch.testing.assert_close(gradient, expected)


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
    basis = MetaDeblur(tiny_config()).embed.weight[:-1].double()  # the last one is the radius
    torch.testing.assert_close(
        basis @ basis.t(), torch.eye(14, dtype=torch.float64), atol=1e-5, rtol=0
    )
