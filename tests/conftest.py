"""What several test files share: tiny networks, and the data beside the repository."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from dmsr_cli.config import DMSRConfig
from dmsr_cli.model import DMSR
from tiny_weights import TINY
from training_runs import make_pictures

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

SLOW_FILES = {
    "test_benchmarks",
    "test_cli_nothing_lost",
    "test_cli_overlap",
    "test_cli_sharing",
    "test_cli_watch",
    "test_fuzz",
    "test_isolation",
    "test_pages_browser",
    "test_platforms",
    "test_training_distributed",
    "test_training_resume",
    "test_training_signals",
    "test_wheel",
}
"""Files whose tests start process after process, or wait: all of them have the marker `slow`."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what can be told from outside, and skip what needs a GPU where there is none."""
    for item in items:
        if item.path.stem in SLOW_FILES:
            item.add_marker("slow")
        if "shared_data" in getattr(item, "fixturenames", ()):
            item.add_marker("data")
        if item.get_closest_marker("cuda") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs CUDA"))


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tiny tensors gain nothing from threads, and results then depend on no machine's count."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_config() -> Callable[..., DMSRConfig]:
    """`tiny_config(scale)`: the smallest network in which every layer has something to do."""

    def make(scale: int = 4) -> DMSRConfig:
        wider = {"channels": 8, "reduction": 4, "extractor_channels": 8, "blur_channels": 8}
        return dataclasses.replace(TINY, scale=scale, **wider)

    return make


@pytest.fixture(scope="session")
def tiny_model(tiny_config: Callable[..., DMSRConfig]) -> Callable[..., DMSR]:
    """`tiny_model(scale, seed)`: that network with seeded weights, in evaluation mode."""

    def make(scale: int = 4, seed: int = 0) -> DMSR:
        torch.manual_seed(seed)
        return DMSR(tiny_config(scale)).eval()

    return make


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two small pictures to train on; a test that changes it makes its own."""
    return make_pictures(tmp_path_factory.mktemp("data") / "pictures")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with the test sets; they are no part of the repository."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the test sets are not there: {SHARED_DATA}")
    return SHARED_DATA
