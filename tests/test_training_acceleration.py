"""What makes a step fast on CUDA computes what the plain step does."""

from __future__ import annotations

import copy
import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dmsr_cli.device import move
from dmsr_cli.model import DMSR
from dmsr_cli.model.meta_deblur import WEIGHED_UP_TO
from dmsr_cli.training import step as step_module
from dmsr_cli.training.acceleration import CapturedGradients, compile_regions
from dmsr_cli.training.data import Batch, load_patch_source
from dmsr_cli.training.distributed import World
from dmsr_cli.training.loop import train
from dmsr_cli.training.losses import Losses
from dmsr_cli.training.settings import Recipe
from dmsr_cli.training.step import Objective, Stepper, weighted
from training_runs import draw_no_curves, report_each_iteration, tiny_recipe

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
needs_compiler = pytest.mark.skipif(
    not (shutil.which("g++") or shutil.which("clang++")),
    reason="torch.compile needs a C++ compiler on the CPU: g++ or clang++",
)


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def recipe_with(**training: object) -> Recipe:
    """A network with every piece, whose window has the same form on the CPU as on CUDA."""
    recipe = tiny_recipe(**training)
    model = dataclasses.replace(recipe.model, blocks=3, deblur_size=11)
    assert model.deblur_size > WEIGHED_UP_TO
    return Recipe(model, recipe.training)


def gradients(objective: Objective, batch: Batch) -> tuple[Losses, dict[str, Tensor]]:
    """Losses, and the gradient of each weight."""
    objective.zero_grad(set_to_none=True)
    losses: Losses = objective(batch)
    weighted(losses, objective.settings).backward()
    return losses, gradients_of(objective.model)


def gradients_of(model: DMSR) -> dict[str, Tensor]:
    """A copy of what the last backward pass left."""
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@needs_compiler
def test_compiled_blocks(pictures: Path) -> None:
    """On the CPU, where it can be tried everywhere; two batches, one compilation."""
    recipe = recipe_with()
    torch.manual_seed(0)
    plain = move(DMSR(recipe.model), CPU)
    compiled = copy.deepcopy(plain)
    compile_regions(compiled)
    objectives = [Objective(model, recipe.training, torch.float32) for model in (plain, compiled)]
    source = load_patch_source([pictures], recipe, CPU)
    graphs = []
    torch._dynamo.utils.counters.clear()
    for iteration in (1, 2):
        batch = source.batch(iteration)
        (expected, expected_gradients), (losses, found) = (
            gradients(objective, batch) for objective in objectives
        )
        torch.testing.assert_close(losses, expected)
        assert found["extractor.head.weight"].any()
        for name, gradient in found.items():
            torch.testing.assert_close(gradient, expected_gradients[name])
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    # The blocks together, the meta-deblur module, and the extractor twice: simulated LR pictures
    # need a gradient. More would mean that a hundred blocks take minutes.
    assert graphs == [4, 4]
    assert not torch._dynamo.utils.counters["graph_break"]


def test_a_capture_that_fails_costs_only_speed(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("operation not permitted\nwhen stream is capturing")

    monkeypatch.setattr(step_module, "CapturedGradients", fail)
    recipe = recipe_with(compile=False)
    torch.manual_seed(0)
    model = DMSR(recipe.model)
    plain, hopeful = (
        Stepper(copy.deepcopy(model), recipe.training, CPU, torch.float32, World()) for _ in "ab"
    )
    hopeful.fast = True
    source = load_patch_source([pictures], recipe, CPU)
    plain(source.batch(1), 1, 1e-3)
    with pytest.warns(UserWarning, match="without a CUDA graph: operation not permitted when"):
        hopeful(source.batch(1), 1, 1e-3)
    hopeful(source.batch(2), 2, 1e-3)  # warns no more: the tests end on a second one
    plain(source.batch(2), 2, 1e-3)
    for name, tensor in plain.model.state_dict().items():
        assert torch.equal(tensor, hopeful.model.state_dict()[name]), name


@pytest.mark.cuda
def test_captured_gradients(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    recipe = recipe_with(compile=False)
    torch.manual_seed(0)
    model = DMSR(recipe.model)
    eager, graph = (
        Stepper(copy.deepcopy(model), recipe.training, CUDA, torch.float32, World()) for _ in "ab"
    )
    source = load_patch_source([pictures], recipe, CUDA)
    batches = [source.batch(iteration) for iteration in (1, 2)]
    captured = CapturedGradients(graph._backward, graph.optimizer, batches[0])
    totals = []
    for batch in (*batches, batches[0]):
        expected, expected_total = eager._gradients(batch)
        expected_gradients = gradients_of(eager.model)
        losses, total = captured(batch)
        tolerance = {"atol": 1e-5, "rtol": 1e-3}
        torch.testing.assert_close(losses, expected, **tolerance)
        torch.testing.assert_close(total, expected_total, **tolerance)
        for name, gradient in gradients_of(graph.model).items():
            torch.testing.assert_close(gradient, expected_gradients[name], **tolerance)
        totals.append(float(total))
    assert totals[0] != pytest.approx(totals[1], rel=1e-3)
    assert totals[0] == pytest.approx(totals[2], rel=1e-3)


@pytest.mark.cuda
def test_training_on_cuda(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled, captured and in bf16, where the GPU has it; and it can go on."""
    draw_no_curves(monkeypatch)
    report_each_iteration(monkeypatch)
    settings = {"kernel_widths": (1.5, 1.5), "noise_levels": (10.0, 10.0), "eight_bit": 0.0}
    totals: list[float] = []
    arguments = {
        "device": CUDA,
        "validation": pictures,
        "on_progress": lambda progress: totals.append(sum(progress.losses.values())),
    }
    recipe = recipe_with(iterations=60, precision="auto", **settings)
    result = train(recipe, [pictures], tmp_path / "run", **arguments)
    assert result.finished
    assert result.psnr is not None
    assert sum(totals[45:60]) < 0.7 * sum(totals[:15])
    longer = recipe_with(iterations=70, precision="auto", **settings)
    again = train(longer, [pictures], tmp_path / "run", resume=True, **arguments)
    assert (again.finished, again.iterations) == (True, 70)


@pytest.mark.cuda
def test_batches_on_cuda(pictures: Path) -> None:
    """The same again and again, wherever they are drawn; nothing of them on the CPU."""
    one, other = (load_patch_source([pictures], tiny_recipe(), CUDA) for _ in "ab")
    other.batch(1)
    pairs = list(zip(one.batch(2), other.batch(2), strict=True))
    pairs[2:3] = zip(*pairs[2], strict=True)  # kernels and noise maps
    for left, right in pairs:
        assert left.device.type == "cuda"
        assert torch.equal(left, right)
