"""What a person asks for is what the bundled networks do, step by step, on a small picture."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

import dmsr_cli

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
SIDE = 32

all_scales = pytest.mark.parametrize("scale", [2, 3, 4])


@pytest.fixture
def controls(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("controls")


def model_of(scale: int) -> dmsr_cli.Model:
    return dmsr_cli.load_model(f"dmsr-lite-x{scale}", "cpu")


def test_is_monotonic(controls):
    assert controls.is_monotonic([1, 2, 2.1])
    for values in ([1, 2, 2], [1, 3, 2], [2, 1]):
        assert not controls.is_monotonic(values)


@all_scales
def test_more_denoise_takes_away_more_noise(controls, scale):
    hr = controls.middle_of(controls.SAMPLE, SIDE * scale)
    effects = controls.noise_by_factor(hr, model_of(scale), 20.0)
    assert controls.is_monotonic([effect.gone for effect in effects])
    assert controls.is_monotonic([-effect.left for effect in effects])


@all_scales
def test_noise_is_measured(controls, scale):
    """A plain enlargement keeps a part of it, the picture itself has none."""
    hr = controls.middle_of(controls.SAMPLE, SIDE * scale)
    plain = controls.effect_on_bicubic(hr, scale, 20.0)
    assert 5 < plain.left < 20
    perfect = controls.effect_of(hr[0].permute(1, 2, 0).numpy(), hr, scale, 20.0)
    assert perfect.left == pytest.approx(0, abs=1e-4)
    assert perfect.gone == pytest.approx(20, rel=0.05)


@all_scales
def test_a_larger_kernel_width_sharpens_more(controls, scale):
    hr = controls.middle_of(controls.SAMPLE, SIDE * scale)
    energies = controls.energy_by_width(hr, model_of(scale))
    assert controls.is_monotonic(energies)
    assert energies[-1] > 1.3 * energies[0]  # a person can see it
