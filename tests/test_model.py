"""The network: the paper's parameter counts, shapes at odd sizes, and where training starts."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from dmsr_cli.config import DMSRConfig
from dmsr_cli.degradation import gaussian_kernel
from dmsr_cli.errors import SettingsError
from dmsr_cli.model import DMSR, Degradation, DegradationExtractor
from dmsr_cli.model.layers import pad_replicate, spatial_mean
from dmsr_cli.model.meta_deblur import MetaDeblur
from dmsr_cli.training.settings import read_recipe

SIZES = [(1, 1), (1, 17), (17, 1), (7, 13), (23, 29)]


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def ramps(height: int = 24, width: int = 30) -> torch.Tensor:
    """A smooth picture (1, 3, height, width) in [0.1, 0.9]."""
    rows, columns = torch.meshgrid(
        torch.linspace(0.1, 0.9, height), torch.linspace(0.1, 0.9, width), indexing="ij"
    )
    return torch.stack((rows, columns, (rows + columns) / 2)).unsqueeze(0)


@pytest.mark.parametrize(("scale", "restorer"), [(2, 7_892_136), (3, 8_076_776), (4, 8_335_272)])
def test_parameters_of_the_paper(scale, restorer):
    with torch.device("meta"):
        model = DMSR(DMSRConfig(scale=scale))
    assert parameters(model.extractor) == 484_516
    assert parameters(model.restorer) == restorer
    assert parameters(model) == 484_516 + restorer


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_lite_is_small(scale):
    with torch.device("meta"):
        model = DMSR(dataclasses.replace(read_recipe("lite").model, scale=scale))
    assert 400_000 < parameters(model) < 1_200_000


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("width", [0, 1, 2, 7, 31])
@pytest.mark.parametrize("size", SIZES)
def test_pad_replicate(size, width, layout):
    """Also where the padding is wider than the picture."""
    torch.manual_seed(0)
    image = torch.rand(2, 3, *size, dtype=torch.float64)
    image = image.contiguous(memory_format=layout).requires_grad_()
    expected = F.pad(image, (width,) * 4, mode="replicate")
    actual = pad_replicate(image, width)
    assert torch.equal(actual, expected)
    probe = torch.randn_like(actual)
    (left,) = torch.autograd.grad(actual, image, probe)
    (right,) = torch.autograd.grad(expected, image, probe)
    torch.testing.assert_close(left, right)


class TestSpatialMean:
    def test_values(self):
        features = torch.rand(2, 5, 7, 3, dtype=torch.float64)
        expected = features.sum(dim=(2, 3)).float() / 21
        torch.testing.assert_close(spatial_mean(features), expected)

    @pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
    def test_float32_from_bf16(self, layout):
        """In bf16, a sum stops to grow at 256 ones."""
        features = torch.ones(1, 4, 64, 64).bfloat16().contiguous(memory_format=layout)
        features[:, :, ::2] = 1.0078125  # the next larger number
        mean = spatial_mean(features)
        assert mean.dtype == torch.float32
        torch.testing.assert_close(mean, torch.full((1, 4), 1.00390625), atol=1e-6, rtol=0)

    def test_gradient(self):
        features = torch.rand(2, 3, 4, 5, dtype=torch.float64).requires_grad_()
        probe = torch.randn(2, 3)
        (gradient,) = torch.autograd.grad(spatial_mean(features), features, probe)
        expected = (probe / 20)[:, :, None, None].expand(-1, -1, 4, 5)
        torch.testing.assert_close(gradient, expected.double(), atol=1e-6, rtol=0)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_gradient_of_a_channels_last_picture_has_its_layout(self, dtype):
        """Also when it is the first of those that are added up."""
        layout = {"memory_format": torch.channels_last}
        features, probe = (torch.rand(2, 8, 5, 6, dtype=dtype).contiguous(**layout) for _ in "ab")
        features.requires_grad_()
        total = (features * probe).sum() + spatial_mean(features).square().sum()
        # Not backward(): that would bring the sum into the layout of the picture.
        (gradient,) = torch.autograd.grad(total, features)
        assert gradient.dtype == dtype
        assert gradient.is_contiguous(**layout)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("size", SIZES)
@torch.inference_mode()
def test_shapes(tiny_model, scale, size):
    height, width = size
    for count in (1, 3):
        lr = torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))
        restored, degradation = tiny_model(scale)(lr)
        assert restored.shape == (count, 3, height * scale, width * scale)
        assert degradation.kernel.shape == (count, 15, 15)
        assert degradation.noise_map.shape == lr.shape
        assert {t.dtype for t in (restored, *degradation)} == {torch.float32}
        assert all(t.isfinite().all() for t in (restored, *degradation))


@torch.inference_mode()
def test_pictures_of_a_batch_do_not_mix(tiny_model):
    lr = torch.rand(3, 3, 9, 11, generator=torch.Generator().manual_seed(1))
    lr[1] *= 0.3
    model = tiny_model()
    together, degradations = model(lr)
    for index in range(3):
        alone, degradation = model(lr[index : index + 1])
        torch.testing.assert_close(together[index : index + 1], alone, atol=1e-5, rtol=0)
        for left, right in zip(degradations, degradation, strict=True):
            torch.testing.assert_close(left[index : index + 1], right, atol=1e-6, rtol=0)
    assert not torch.equal(degradations.kernel[0], degradations.kernel[1])


@torch.inference_mode()
def test_a_given_degradation_guides(tiny_model):
    model, lr = tiny_model(), ramps(9, 11)
    estimated, found = model(lr)
    given, used = model(lr, found)
    torch.testing.assert_close(given, estimated)
    assert used is found
    noisy, _ = model(lr, Degradation(found.kernel, found.noise_map + 0.2))
    assert (noisy - estimated).abs().max() > 1e-3
    delta = torch.zeros_like(found.kernel)
    delta[:, 7, 7] = 1
    sharp, _ = model(lr, Degradation(delta, found.noise_map))
    assert (sharp - estimated).abs().max() > 1e-6


@torch.inference_mode()
def test_kernels_are_kernels(tiny_model):
    lr = torch.randn(4, 3, 12, 9, generator=torch.Generator().manual_seed(2)) * 3
    kernel = tiny_model().extractor(lr).kernel
    assert (kernel >= 0).all()
    torch.testing.assert_close(kernel.sum(dim=(1, 2)), torch.ones(4), atol=1e-6, rtol=0)


@pytest.mark.parametrize("blocks", [1, 2, 3])
@torch.inference_mode()
def test_extractor_radius_is_exact(tiny_config, blocks):
    """Strips with a halo of `radius` see what the whole sees; one pixel less is too little."""
    torch.manual_seed(0)
    config = dataclasses.replace(tiny_config(), extractor_blocks=blocks)
    extractor = DegradationExtractor(config).double()
    assert extractor.radius == 3 + 2 * blocks
    lr = torch.rand(1, 3, 31, 8, dtype=torch.float64)
    whole, whole_noise = extractor.maps(lr)

    def strips(halo: int) -> tuple[torch.Tensor, torch.Tensor]:
        logits, noise = [], []
        for top in range(0, 31, 6):
            bottom, first = min(top + 6, 31), max(0, top - halo)
            part, part_noise = extractor.maps(lr[:, :, first : bottom + halo])
            logits.append(part[:, :, top - first : bottom - first])
            noise.append(part_noise[:, :, top - first : bottom - first])
        return torch.cat(logits, dim=2), torch.cat(noise, dim=2)

    enough, enough_noise = strips(extractor.radius)
    torch.testing.assert_close(enough, whole, atol=1e-12, rtol=0)
    torch.testing.assert_close(enough_noise, whole_noise, atol=1e-6, rtol=0)
    too_little, _ = strips(extractor.radius - 1)
    assert (too_little - whole).abs().max() > 1e-6


@pytest.mark.parametrize("scale", [2, 3, 4])
@torch.inference_mode()
def test_starts_near_interpolation(scale):
    torch.manual_seed(0)
    lr = ramps()
    restored, _ = DMSR(dataclasses.replace(read_recipe("lite").model, scale=scale))(lr)
    bilinear = F.interpolate(lr, scale_factor=scale, mode="bilinear")
    assert (restored - bilinear).square().mean() < 10**-1.4  # 14 dB
    for channel in range(3):
        pair = torch.stack((restored[0, channel].flatten(), bilinear[0, channel].flatten()))
        assert torch.corrcoef(pair)[0, 1] > 0.8


@pytest.mark.parametrize("size", [7, 15])
@torch.inference_mode()
def test_meta_deblur_starts_as_identity_for_a_kernel_of_middle_width(tiny_config, size):
    torch.manual_seed(0)
    module = MetaDeblur(dataclasses.replace(tiny_config(), deblur_size=size))
    image, kernel = torch.rand(2, 3, 9, 11), gaussian_kernel(torch.tensor([1.52, 1.52]))
    torch.testing.assert_close(module(image, kernel), image, atol=0.02, rtol=0)


def test_the_seed_decides_the_weights(tiny_model):
    first, same, other = (tiny_model(seed=seed).state_dict() for seed in (5, 5, 6))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["restorer.head.weight"], other["restorer.head.weight"])


def test_every_parameter_gets_a_gradient(tiny_config):
    torch.manual_seed(0)
    model = DMSR(tiny_config(2))
    restored, degradation = model(torch.rand(2, 3, 8, 8))
    probe = torch.rand(15, 15)
    (restored.square().sum() + (degradation.kernel * probe).sum()).backward()
    missing = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    ]
    assert not missing


@pytest.mark.parametrize(
    "values",
    [
        {"channels": 2, "reduction": 1},
        {"upsampled_channels": 2},
        {"kernel_size": 3, "embedding": 10},
    ],
)
def test_configs_that_make_no_network_are_refused(values):
    with pytest.raises(SettingsError) as caught:
        DMSRConfig(**values)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [
        {"channels": 3, "reduction": 3, "upsampled_channels": 3},
        {"kernel_size": 3, "embedding": 9},
        {"kernel_size": 1, "embedding": 1, "deblur_size": 1},
        {"scale": 1},
        {"scale": 8},
    ],
)
@torch.inference_mode()
def test_extreme_configs_work(tiny_config, values):
    config = dataclasses.replace(tiny_config(), **values)
    restored, _ = DMSR(config)(torch.rand(1, 3, 3, 5))
    assert restored.shape == (1, 3, 3 * config.scale, 5 * config.scale)
