"""`dmsr export`: what onnxruntime makes of the files is what PyTorch makes of the network."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import dmsr_cli
from command_line import dmsr
from dmsr_cli.cli.export import BOTH, _plain_stem
from dmsr_cli.cli.main import main
from dmsr_cli.config import DMSRConfig
from dmsr_cli.degradation import gaussian_kernel
from dmsr_cli.errors import DmsrError
from dmsr_cli.export.checking import TOLERANCE, largest_difference
from dmsr_cli.export.onnx_model import PARTS
from dmsr_cli.export.plain import PlainExtractor, PlainMetaDeblur, PlainRestorer
from dmsr_cli.model import DMSR
from dmsr_cli.model.meta_deblur import MetaDeblur
from dmsr_cli.weight_file import load_weights, save_weights
from pictures import smooth
from tiny_weights import tiny_model, with_strong_attention

SIZES = [(1, 17, 23), (1, 32, 32), (3, 41, 19), (1, 1, 1), (2, 1, 7)]
ROOT = Path(__file__).parent.parent
EXPORTED = "onnx"


def strong_model(scale: int, seed: int = 0) -> DMSR:
    """A network all of whose parts count in the result."""
    network = with_strong_attention(tiny_model(seed, scale))
    with torch.no_grad():
        network.restorer.deblur.meta.weight.normal_(std=0.02)
        for layer in (network.restorer.output, network.restorer.denoise):  # start as the identity
            layer.weight.add_(0.1 * torch.randn_like(layer.weight))
        network.extractor.blur2.weight.mul_(20)
    return network


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """The folder where the command wrote both parts of a bundled model, and what it said."""
    folder = tmp_path_factory.mktemp("bundled")
    done = dmsr(
        "export", "--model", "dmsr-lite-x4", "-o", EXPORTED, "--check", "--json", cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return folder, done.stdout, done.stderr


@pytest.fixture(scope="module", params=[2, 3])
def restorer(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, DMSR]:
    """The restorer of a tiny network of each other scale, and the network."""
    folder = tmp_path_factory.mktemp("restorer")
    weights, target = folder / "tiny.safetensors", folder / "restorer.onnx"
    save_weights(strong_model(request.param), weights, dtype=torch.float32)
    arguments = ["--model", str(weights), "--part", "restorer", "-o", str(target), "--opset", "20"]
    assert main(["export", *arguments]) == 0
    return target, load_weights(weights)


def inputs_of(network: DMSR, count: int, height: int, width: int) -> dict[str, torch.Tensor]:
    chance = torch.Generator().manual_seed(height)
    size = network.config.kernel_size
    kernel = torch.rand(count, size, size, generator=chance)
    return {
        "lr": torch.rand(count, 3, height, width, generator=chance),
        "kernel": kernel / kernel.sum(dim=(1, 2), keepdim=True),
        "noise_map": 0.2 * torch.randn(count, 3, height, width, generator=chance),
    }


def run(file: Path, inputs: dict[str, torch.Tensor]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    arrays = {each.name: inputs[each.name].numpy() for each in session.get_inputs()}
    return session.run(None, arrays)


def assert_near(found: np.ndarray, expected: torch.Tensor) -> None:
    assert found.shape == tuple(expected.shape)
    assert found.dtype == np.float32
    assert np.abs(found - expected.numpy()).max() < TOLERANCE


class TestPlainForm:
    @pytest.mark.parametrize("size", [1, 5, 7, 15])
    @torch.inference_mode()
    def test_meta_deblur(self, size: int) -> None:
        torch.manual_seed(size)
        module = MetaDeblur(DMSRConfig(deblur_size=size)).eval()
        for parameter in module.parameters():
            parameter.normal_(std=0.1)
        image, kernel = torch.rand(2, 3, 13, 9), torch.rand(2, 15, 15)
        expected = module(image, kernel)
        difference = (PlainMetaDeblur(module)(image, kernel) - expected).abs().max()
        assert difference < 1e-5 * expected.abs().max()

    @torch.inference_mode()
    def test_parts(self) -> None:
        network = strong_model(3)
        inputs = inputs_of(network, 2, 9, 14)
        expected = network.restorer(**inputs)
        assert (PlainRestorer(network.restorer)(**inputs) - expected).abs().max() < 1e-4
        for found, wanted in zip(
            PlainExtractor(network.extractor)(inputs["lr"]),
            network.extractor(inputs["lr"]),
            strict=True,
        ):
            assert torch.equal(found, wanted)


class TestFiles:
    @pytest.mark.parametrize("size", SIZES)
    @torch.inference_mode()
    def test_tiny_restorers(self, restorer: tuple[Path, DMSR], size: tuple[int, int, int]) -> None:
        file, network = restorer
        inputs = inputs_of(network, *size)
        assert_near(run(file, inputs)[0], network.restorer(**inputs))

    @pytest.mark.parametrize("size", SIZES)
    @torch.inference_mode()
    def test_bundled(self, bundled: tuple[Path, str, str], size: tuple[int, int, int]) -> None:
        folder, network = bundled[0] / EXPORTED, dmsr_cli.load_model("dmsr-lite-x4", "cpu").network
        inputs = inputs_of(network, *size)
        kernel, noise_map = run(folder / "dmsr-lite-x4-extractor.onnx", inputs)
        assert_near(kernel, network.extractor(inputs["lr"]).kernel)
        assert_near(noise_map, network.extractor(inputs["lr"]).noise_map)
        found = run(folder / "dmsr-lite-x4-restorer.onnx", inputs)[0]
        assert_near(found, network.restorer(**inputs))

    def test_what_is_said(self, bundled: tuple[Path, str, str]) -> None:
        folder, printed, said = bundled
        record = json.loads(printed)
        assert [file["part"] for file in record["files"]] == list(PARTS)
        for file in record["files"]:
            assert (folder / file["file"]).stat().st_size == file["bytes"]
            assert 0 <= file["largest_difference"] < TOLERANCE
        assert [line.split(":")[0] for line in said.splitlines()] == [
            file["file"] for file in record["files"]
        ]

    def test_facts_and_nothing_of_this_computer(self, bundled: tuple[Path, str, str]) -> None:
        folder, printed, _ = bundled
        for file in json.loads(printed)["files"]:
            model = onnx.load(folder / file["file"])
            onnx.checker.check_model(model, full_check=True)
            facts = {each.key: each.value for each in model.metadata_props}
            assert facts == json.loads(printed)["facts"] | {"dmsr.part": file["part"]}
            assert facts["dmsr.license"] == "MIT"
            assert facts["dmsr.scale"] == "4"
            assert facts["dmsr.version"] == dmsr_cli.__version__
            assert [each.version for each in model.opset_import] == [18]
            content = (folder / file["file"]).read_bytes()
            assert not re.search(rb"\.py|site-packages|/home/|/src/", content)

    def test_opset(self, restorer: tuple[Path, DMSR]) -> None:
        model = onnx.load(restorer[0])
        assert [each.version for each in model.opset_import] == [20]
        names = [each.dim_param for each in model.graph.input[0].type.tensor_type.shape.dim]
        assert names == ["batch", "", "height", "width"]

    def test_check_finds_another_network(self, restorer: tuple[Path, DMSR]) -> None:
        file, network = restorer
        assert largest_difference(file.read_bytes(), network, "restorer") < TOLERANCE
        other = strong_model(network.config.scale, seed=1)
        with pytest.raises(DmsrError, match="differs from the network by"):
            largest_difference(file.read_bytes(), other, "restorer")
        with pytest.raises(DmsrError, match="onnxruntime cannot run"):
            largest_difference(b"damaged", network, "restorer")


class TestCommand:
    @pytest.fixture
    def weights(self, tmp_path: Path) -> str:
        save_weights(tiny_model(), tmp_path / "tiny.safetensors")
        return str(tmp_path / "tiny.safetensors")

    def test_what_is_there_stays(
        self, weights: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        target = tmp_path / "tiny-restorer.onnx"
        target.write_text("mine")
        assert main(["export", "--model", weights, "-o", str(tmp_path)]) == 2
        assert "use --overwrite" in capsys.readouterr().err
        assert target.read_text() == "mine"
        assert not (tmp_path / "tiny-extractor.onnx").exists()

    def test_overwrite(self, weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        target = tmp_path / "a.onnx"
        target.write_text("mine")
        monkeypatch.setattr("dmsr_cli.export.onnx_model.onnx_content", lambda *_: b"new")
        arguments = ["export", "--model", weights, "-o", str(target), "--part", "extractor"]
        assert main([*arguments, "--overwrite"]) == 0
        assert target.read_bytes() == b"new"

    def test_two_parts_need_a_folder(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["export", "-o", "a.onnx"]) == 2
        assert "give a folder, or --part" in capsys.readouterr().err

    @pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
    def test_without_the_extra(
        self,
        package: str,
        weights: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        if package == "onnxruntime":
            monkeypatch.setattr("dmsr_cli.export.onnx_model.onnx_content", lambda *_: b"new")
        monkeypatch.setitem(sys.modules, package, None)
        arguments = ["export", "--model", weights, "-o", str(tmp_path / "out"), "--check"]
        assert main(arguments) == 1
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert 'pip install "dmsr-cli[onnx]"' in said
        assert not (tmp_path / "out").exists()

    def test_exporter_that_fails(
        self,
        weights: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        def fail(*_: object, **__: object) -> None:
            raise RuntimeError("no such\noperator")

        monkeypatch.setattr("torch.onnx.export", fail)
        assert main(["export", "--model", weights, "-o", str(tmp_path / "out")]) == 1
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert "no such operator" in said
        assert not (tmp_path / "out").exists()

    def test_names_of_files(self) -> None:
        assert _plain_stem("dmsr-lite-x4") == "dmsr-lite-x4"
        assert _plain_stem("hf://me/mine/fine.safetensors@v1") == "fine"
        assert _plain_stem("'a\\nb.safetensors'") == "dmsr"
        assert _plain_stem("nul.safetensors") == "dmsr"
        assert BOTH == PARTS


class TestPage:
    def blocks(self) -> list[str]:
        text = (ROOT / "docs" / "export.md").read_text("utf-8")
        return re.findall(r"```python\n(.*?)```", text, re.DOTALL)

    def test_example_gives_what_the_tool_gives(
        self, bundled: tuple[Path, str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(bundled[0])
        dmsr_cli.write_image(smooth(), "photo.png")
        exec(self.blocks()[0], {})
        found = dmsr_cli.read_image("photo_x4.png").pixels
        image = dmsr_cli.read_image("photo.png")
        expected = dmsr_cli.upscale(
            image.pixels, dmsr_cli.load_model("dmsr-lite-x4", "cpu"), tile=0, colours=False
        )
        assert np.abs(found - expected).max() < 1.01 / 255

    def test_kernel_is_that_of_the_option(self) -> None:
        names: dict[str, object] = {"noise_map": np.ones((1, 3, 4, 4), np.float32)}
        exec(self.blocks()[1], names)
        kernel = names["kernel"]
        assert isinstance(kernel, np.ndarray)
        assert kernel.dtype == np.float32
        assert np.allclose(kernel, gaussian_kernel(1.8, 15).numpy(), atol=1e-6)
