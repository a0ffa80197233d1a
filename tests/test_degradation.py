"""The forward model against independent implementations: scipy, Pillow, torch, numpy."""

import zlib

import numpy as np
import PIL.Image
import pytest
import scipy.ndimage
import torch
import torch.nn.functional as F

from dmsr_cli.degradation import (
    PatchDegradation,
    bicubic_downsample,
    bicubic_taps,
    bicubic_upsample,
    blur,
    crop_to_multiple,
    degrade,
    gaussian_kernel,
    pad_symmetric,
    to_8bit,
)
from dmsr_cli.images import find_images, read_image
from dmsr_cli.metrics import psnr

SCALES = [2, 3, 4]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def random_kernels(count: int, size: int = 15) -> torch.Tensor:
    """Kernels without any symmetry."""
    kernels = torch.rand(count, size, size) ** 6
    return kernels / kernels.sum(dim=(1, 2), keepdim=True)


def pillow_resize(image: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Pillow's antialiased bicubic in float, plane by plane."""
    planes = [
        np.asarray(
            PIL.Image.fromarray(plane.numpy()).resize((width, height), PIL.Image.Resampling.BICUBIC)
        )
        for plane in image.flatten(0, 1)
    ]
    return torch.from_numpy(np.stack(planes)).unflatten(0, image.shape[:2])


class TestGaussianKernel:
    def test_sum_and_symmetry(self):
        kernels = gaussian_kernel(torch.tensor([0.2, 0.7, 1.5, 3.0]))
        assert kernels.shape == (4, 15, 15)
        assert kernels.dtype == torch.float32
        assert (kernels >= 0).all()
        torch.testing.assert_close(kernels.sum(dim=(1, 2)), torch.ones(4))
        for mirrored in (kernels.flip(1), kernels.flip(2), kernels.transpose(1, 2)):
            torch.testing.assert_close(kernels, mirrored)

    def test_narrow_is_nearly_a_delta(self):
        kernel = gaussian_kernel(0.2)
        assert kernel.shape == (1, 15, 15)
        assert kernel[0, 7, 7] > 0.9999

    def test_moments(self):
        kernel = gaussian_kernel(1.5)[0].double()
        offsets = torch.arange(15, dtype=torch.float64) - 7
        for axis in (0, 1):
            profile = kernel.sum(dim=axis)
            assert (profile * offsets).sum().abs() < 1e-6
            assert (profile * offsets**2).sum().sqrt() == pytest.approx(1.5, abs=1e-3)

    def test_size(self):
        assert gaussian_kernel(1.0, 7).shape == (1, 7, 7)


class TestBlur:
    @pytest.mark.parametrize("size", [(23, 29), (7, 13), (1, 17), (1, 1)])
    def test_is_a_convolution_with_the_edge_repeated(self, size):
        image, kernels = torch.rand(2, 3, *size), random_kernels(2)
        actual = blur(image, kernels)
        for index in range(2):
            for channel in range(3):
                expected = scipy.ndimage.convolve(
                    image[index, channel].double().numpy(),
                    kernels[index].double().numpy(),
                    mode="reflect",
                )
                np.testing.assert_allclose(actual[index, channel].numpy(), expected, atol=1e-5)

    def test_one_kernel_serves_all(self):
        image, kernel = torch.rand(3, 3, 9, 8), random_kernels(1)
        torch.testing.assert_close(blur(image, kernel), blur(image, kernel.expand(3, -1, -1)))

    def test_an_impulse_becomes_the_kernel(self):
        image = torch.zeros(1, 1, 31, 31)
        image[..., 15, 15] = 1
        kernel = random_kernels(1)
        torch.testing.assert_close(blur(image, kernel)[:, 0, 8:23, 8:23], kernel)


class TestResampling:
    @pytest.mark.parametrize("scale", SCALES)
    def test_taps(self, scale):
        taps = bicubic_taps(scale)
        assert taps.shape == (4 * scale,)
        assert taps.sum().item() == pytest.approx(1, abs=1e-12)

    @pytest.mark.parametrize("scale", SCALES)
    def test_down_in_the_interior(self, scale):
        image = torch.rand(2, 3, 14 * scale, 17 * scale)
        actual = bicubic_downsample(image, scale)
        assert actual.shape == (2, 3, 14, 17)
        others = (
            pillow_resize(image, 14, 17),
            F.interpolate(image, (14, 17), mode="bicubic", antialias=True),
        )
        for expected in others:
            inner = (..., slice(2, -2), slice(2, -2))
            torch.testing.assert_close(actual[inner], expected[inner], atol=2e-6, rtol=0)

    @pytest.mark.parametrize("scale", SCALES)
    def test_up_in_the_interior(self, scale):
        image = torch.rand(2, 3, 11, 9)
        actual = bicubic_upsample(image, scale)
        assert actual.shape == (2, 3, 11 * scale, 9 * scale)
        expected = pillow_resize(image, 11 * scale, 9 * scale)
        inner = (..., slice(2 * scale, -2 * scale), slice(2 * scale, -2 * scale))
        torch.testing.assert_close(actual[inner], expected[inner], atol=2e-6, rtol=0)

    @pytest.mark.parametrize("scale", SCALES)
    def test_borders_are_mirrored(self, scale):
        """A mirrored picture gives a mirrored result: the border is an axis of symmetry."""
        image = torch.rand(1, 3, 6 * scale, 5 * scale)
        mirrored = torch.cat((image, image.flip(-1)), dim=-1)
        actual = bicubic_downsample(mirrored, scale)[..., :5]
        torch.testing.assert_close(bicubic_downsample(image, scale), actual, atol=1e-6, rtol=0)
        enlarged = bicubic_upsample(mirrored, scale)[..., : 5 * scale**2]
        torch.testing.assert_close(bicubic_upsample(image, scale), enlarged, atol=1e-6, rtol=0)

    @pytest.mark.parametrize("scale", SCALES)
    @pytest.mark.parametrize("size", [(1, 1), (1, 5), (6, 7)])
    def test_constant_stays_constant(self, scale, size):
        image = torch.full((1, 3, size[0] * scale, size[1] * scale), 0.6)
        for result in (
            blur(image, random_kernels(1)),
            bicubic_downsample(image, scale),
            bicubic_upsample(image, scale),
        ):
            torch.testing.assert_close(result, torch.full_like(result, 0.6), atol=1e-6, rtol=0)

    def test_scale_1_and_wrong_sizes(self):
        image = torch.rand(1, 3, 5, 7)
        assert torch.equal(bicubic_downsample(image, 1), image)
        with pytest.raises(ValueError, match="multiple"):
            bicubic_downsample(image, 2)


class TestPatchDegradation:
    @pytest.mark.parametrize("kernel_size", [15, 7])
    @pytest.mark.parametrize("scale", SCALES)
    def test_equals_blur_and_downsample(self, scale, kernel_size):
        patches = PatchDegradation(scale, kernel_size)
        margin = patches.margin
        assert margin % scale == 0
        height, width = 6 * scale, 8 * scale
        patch = torch.rand(3, 3, height + 2 * margin, width + 2 * margin)
        kernel = random_kernels(3, kernel_size).requires_grad_()
        actual = patches.downsample(patches.prefilter(patch), kernel)
        assert actual.shape == (3, 3, 6, 8)
        inner = slice(margin // scale, -(margin // scale))
        expected = bicubic_downsample(blur(patch, kernel), scale)[..., inner, inner]
        torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)

        probe = torch.randn_like(actual)
        (left,) = torch.autograd.grad((actual * probe).sum(), kernel)
        (right,) = torch.autograd.grad((expected * probe).sum(), kernel)
        assert right.abs().max() > 0.1
        torch.testing.assert_close(left, right, atol=1e-4, rtol=1e-4)

    @pytest.mark.parametrize("scale", [1, *SCALES, 8])
    @pytest.mark.parametrize("size", [(0, 0), (0, 5), (9, 2)])
    def test_prefilter_is_a_convolution(self, scale, size):
        """With the bicubic taps, in both directions; 0 is the smallest patch that has a result."""
        taps = bicubic_taps(scale)
        height, width = (len(taps) + more for more in size)
        patch = torch.rand(2, 3, height, width)
        actual = PatchDegradation(scale).prefilter(patch)
        weight = torch.outer(taps, taps).view(1, 1, len(taps), len(taps))
        expected = F.conv2d(patch.double().reshape(6, 1, height, width), weight)
        assert actual.dtype == torch.float32
        assert actual.shape == (2, 3, size[0] + 1, size[1] + 1)
        torch.testing.assert_close(actual.double().view_as(expected), expected, atol=1e-6, rtol=0)


class TestDegrade:
    def test_is_seeded(self):
        image, kernel = torch.rand(2, 3, 24, 24), gaussian_kernel(1.0)
        first, same, other = (
            degrade(image, kernel, 4, 25, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
        )
        assert torch.equal(first, same)
        assert not torch.equal(first, other)

    def test_noise(self):
        image = torch.zeros(1, 3, 192, 192)
        lr = degrade(image, gaussian_kernel(1.0), 2, 50, torch.Generator().manual_seed(0))
        assert lr.std().item() * 255 == pytest.approx(50, rel=0.02)
        assert lr.mean().abs().item() * 255 < 1
        assert lr.min() < 0  # float LR is not clipped
        between = torch.corrcoef(lr.flatten(2)[0]) - torch.eye(3)
        assert between.abs().max() < 0.05

    def test_without_noise(self):
        image, kernel = torch.rand(1, 3, 24, 24), random_kernels(1)
        expected = bicubic_downsample(blur(image, kernel), 3)
        assert torch.equal(degrade(image, kernel, 3, 0), expected)


@pytest.mark.parametrize("pads", [(0, 0, 0, 0), (2, 1, 3, 0), (9, 14, 11, 23)])
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (4, 3)])
def test_pad_symmetric(size, pads):
    left, right, top, bottom = pads
    image = torch.rand(2, 3, *size)
    expected = np.pad(
        image.numpy(), ((0, 0), (0, 0), (top, bottom), (left, right)), mode="symmetric"
    )
    np.testing.assert_array_equal(pad_symmetric(image, *pads).numpy(), expected)


def test_to_8bit():
    image = torch.tensor([-0.3, 0.0, 0.4 / 255, 0.6 / 255, 100.2 / 255, 1.0, 1.7])
    levels = to_8bit(image) * 255
    torch.testing.assert_close(levels, torch.tensor([0.0, 0.0, 0.0, 1.0, 100.0, 255.0, 255.0]))


@pytest.mark.parametrize("scale", [1, *SCALES])
def test_crop_to_multiple(scale):
    image = torch.rand(1, 3, 11, 13)
    cropped = crop_to_multiple(image, scale)
    assert cropped.shape[-2:] == (11 // scale * scale, 13 // scale * scale)
    assert torch.equal(cropped, image[..., : cropped.shape[-2], : cropped.shape[-1]])


# PSNR of bicubic enlargement of the float LR pictures of Set5, by kernel width and noise level.
ANCHORS = {
    (0.2, 15): (29.18, 27.58, 26.40),
    (1.3, 15): (27.36, 26.59, 25.81),
    (2.6, 15): (24.94, 24.72, 24.47),
    (0.2, 50): (21.18, 20.75, 20.42),
    (1.3, 50): (20.71, 20.44, 20.21),
    (2.6, 50): (19.91, 19.76, 19.68),
}


@pytest.fixture(scope="module")
def set5(shared_data):
    paths = find_images(shared_data / "eval" / "Set5")
    assert len(paths) == 5
    pixels = {path.stem: torch.from_numpy(read_image(path).pixels) for path in paths}
    return {stem: image.permute(2, 0, 1).unsqueeze(0) for stem, image in pixels.items()}


@pytest.mark.parametrize("scale", SCALES)
def test_anchors(set5, scale):
    """The protocol as a whole, held to numbers that were measured elsewhere."""
    for (width, level), expected in ANCHORS.items():
        values = []
        for stem, picture in set5.items():
            hr = crop_to_multiple(picture, scale)
            generator = torch.Generator().manual_seed(zlib.crc32(stem.encode()))
            lr = degrade(hr, gaussian_kernel(width), scale, level, generator)
            values.append(psnr(bicubic_upsample(lr, scale).clamp(0, 1), hr, border=scale))
        assert sum(values) / 5 == pytest.approx(expected[scale - 2], abs=0.05), (width, level)
