"""Weight files: what is written, what is read back, and all that is refused."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, load_file, save, save_file

from dmsr_cli import weight_file
from dmsr_cli.config import DMSRConfig
from dmsr_cli.errors import WeightsError
from tiny_weights import FILE, TINY, message, tiny_content, tiny_model


@pytest.fixture
def content() -> bytes:
    return tiny_content()


@pytest.fixture
def file(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / FILE
    path.write_bytes(content)
    return path


class TestFile:
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
    def test_round_trip(self, tmp_path: Path, dtype: torch.dtype) -> None:
        model, path = tiny_model(), tmp_path / FILE
        weight_file.save_weights(model, path, dtype=dtype)
        loaded = weight_file.load_weights(path, weight_file.file_sha256(path))
        assert not loaded.training
        assert loaded.config == TINY
        assert {tensor.dtype for tensor in loaded.state_dict().values()} == {torch.float32}
        for name, tensor in model.state_dict().items():
            assert torch.equal(loaded.state_dict()[name], tensor.to(dtype).float()), name

    def test_loaded_network_runs_as_the_saved_one(self, tmp_path: Path) -> None:
        model, path, lr = tiny_model(), tmp_path / FILE, torch.rand(1, 3, 8, 8)
        weight_file.save_weights(model, path, dtype=torch.float32)
        with torch.inference_mode():
            assert torch.equal(weight_file.load_weights(path)(lr)[0], model(lr)[0])

    def test_loading_leaves_the_random_state_alone(self, file: Path) -> None:
        before = torch.get_rng_state()
        weight_file.load_weights(file)
        assert torch.equal(torch.get_rng_state(), before)

    def test_loaded_network_outlives_its_file(self, tmp_path: Path) -> None:
        path = tmp_path / FILE
        weight_file.save_weights(tiny_model(), path, dtype=torch.float32)
        loaded = weight_file.load_weights(path)
        before = {name: tensor.clone() for name, tensor in loaded.state_dict().items()}
        path.write_bytes(bytes(path.stat().st_size))
        for name, tensor in loaded.state_dict().items():
            assert torch.equal(tensor, before[name]), name

    def test_what_was_hashed_is_what_is_used(
        self, file: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        expected, sha256, verify = (
            load(content),
            weight_file.file_sha256(file),
            weight_file.verify_sha256,
        )

        def verify_and_replace(*arguments: str) -> None:
            verify(*arguments)
            file.write_bytes(content[:-100] + bytes(100))

        monkeypatch.setattr(weight_file, "verify_sha256", verify_and_replace)
        loaded = weight_file.load_weights(file, sha256).state_dict()
        assert file.read_bytes() != content
        for name, tensor in loaded.items():
            assert torch.equal(tensor, expected[name].float()), name

    def test_loading_needs_no_compiler(self, file: Path) -> None:
        """It takes longer to import than a small picture takes to restore."""
        code = (
            "import sys, pathlib, torch, safetensors.torch, dmsr_cli.model\n"
            "from dmsr_cli.weight_file import load_weights\n"
            "before = set(sys.modules)\n"
            "load_weights(pathlib.Path(sys.argv[1]))\n"
            "print(*(set(sys.modules) - before))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(file)],
            check=True,
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert not set(done.stdout.split()) & {"torch._dynamo", "sympy"}

    def test_equal_weights_give_equal_bytes(self, tmp_path: Path) -> None:
        contents = set()
        for number in range(6):  # the library's own order of metadata is random
            path = tmp_path / f"{number}.safetensors"
            weight_file.save_weights(tiny_model(), path, info={"b": 1, "a": [2.5]})
            contents.add(path.read_bytes())
        assert len(contents) == 1

    def test_header_holds_config_and_info(self, tmp_path: Path) -> None:
        path = tmp_path / FILE
        weight_file.save_weights(tiny_model(), path, info={"iterations": 7})
        content = path.read_bytes()
        length = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + length])["__metadata__"]
        assert length % 8 == 0
        assert metadata["format"] == "pt"
        assert json.loads(metadata["dmsr_info"]) == {"iterations": 7}
        assert DMSRConfig(**json.loads(metadata["dmsr_config"])) == TINY
        assert weight_file.read_config(path) == TINY

    def test_channels_last_weights_are_saved(self, tmp_path: Path) -> None:
        path, other = tmp_path / FILE, tmp_path / "other.safetensors"
        weight_file.save_weights(tiny_model(), path)
        weight_file.save_weights(tiny_model().to(memory_format=torch.channels_last), other)
        assert path.read_bytes() == other.read_bytes()

    def test_overflow_of_the_type_is_refused_and_nothing_written(self, tmp_path: Path) -> None:
        model, path = tiny_model(), tmp_path / FILE
        with torch.no_grad():
            next(model.parameters()).fill_(1e5)
        with pytest.raises(WeightsError, match=r"not finite as torch\.float16"):
            weight_file.save_weights(model, path)
        assert list(tmp_path.iterdir()) == []
        weight_file.save_weights(model, path, dtype=torch.float32)
        assert path.is_file()

    @pytest.mark.parametrize("keep", [0, 5, 9, 200, -1])
    def test_truncated(self, file: Path, content: bytes, keep: int) -> None:
        file.write_bytes(content[:keep])
        for read in (weight_file.read_config, weight_file.load_weights):
            with pytest.raises(WeightsError, match=r"truncated|not a safetensors|empty") as error:
                read(file)
            assert FILE in message(error)

    @pytest.mark.parametrize(
        "damage",
        [
            b"<!doctype html><title>no</title>",
            (2**40).to_bytes(8, "little") + b"{}",
            (0).to_bytes(8, "little") + b"{}",
            (3).to_bytes(8, "little") + b"{,}",
            (2).to_bytes(8, "little") + b"[]",
            (10).to_bytes(8, "little") + b'{"a": "b"}',
            (32).to_bytes(8, "little") + b'{"a":{"data_offsets":[0,"much"]}}'[:32],
            (33).to_bytes(8, "little") + b'{"a":{"data_offsets":[0,"much"]}}',
            (60000).to_bytes(8, "little") + b'{"a":' + b"[" * 59995,
        ],
    )
    def test_no_safetensors(self, file: Path, damage: bytes) -> None:
        file.write_bytes(damage)
        with pytest.raises(WeightsError, match=FILE) as error:
            weight_file.read_config(file)
        message(error)

    def test_overlapping_tensors_are_refused(self, file: Path, content: bytes) -> None:
        """Offsets that the library checks, not we."""
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        first, second = list(header)[1:3]
        header[first]["data_offsets"] = header[second]["data_offsets"]
        text = json.dumps(header).encode()
        file.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
        with pytest.raises(WeightsError, match="damaged"):
            weight_file.load_weights(file)

    @pytest.mark.parametrize(
        ("metadata", "expected"),
        [
            (None, "not a DMSR weight file"),
            ({"dmsr_config": "{"}, "not a DMSR weight file"),
            ({"dmsr_config": "[4]"}, "not a DMSR weight file"),
            ({"dmsr_config": '{"scale": 99}'}, "scale must be at most 8"),
            ({"dmsr_config": '{"colour": 1}'}, "unknown setting 'colour'"),
        ],
    )
    def test_bad_metadata(self, file: Path, metadata: dict[str, str] | None, expected: str) -> None:
        file.write_bytes(save({"a": torch.zeros(1)}, metadata))
        with pytest.raises(WeightsError, match=expected) as error:
            weight_file.read_config(file)
        assert FILE in message(error)

    def test_missing_file_and_folder(self, tmp_path: Path) -> None:
        for path in (tmp_path / "no.safetensors", tmp_path):
            for read in (
                weight_file.read_config,
                weight_file.load_weights,
                weight_file.file_sha256,
            ):
                with pytest.raises(WeightsError, match="cannot read") as error:
                    read(path)
                assert str(path) in message(error)

    def changed(self, file: Path, tensors: dict[str, torch.Tensor], **config: int) -> Path:
        values = dataclasses.asdict(TINY) | config
        save_file(tensors, file, {"dmsr_config": json.dumps(values)})
        return file

    def test_wrong_tensors(self, file: Path) -> None:
        good = load_file(file)
        name = sorted(good)[0]
        shape = list(good[name].shape)
        without = {key: tensor for key, tensor in good.items() if key != name}
        cases = [
            (without, [name, "missing"]),
            ({**good, "in\ntruder": torch.zeros(1)}, ["in\\ntruder"]),
            ({**good, name: torch.zeros(7)}, [name, "[7]", str(shape)]),
            ({**good, name: good[name].double()}, [name, "F64", "BF16, F16, F32"]),
            ({**good, name: torch.full_like(good[name], torch.nan)}, [name, "not finite"]),
            ({**good, name: torch.full_like(good[name], torch.inf)}, [name, "not finite"]),
        ]
        for tensors, expected in cases:
            with pytest.raises(WeightsError) as error:
                weight_file.load_weights(self.changed(file, tensors))
            for part in [FILE, *expected]:
                assert part in message(error)

    def test_config_of_another_network(self, file: Path) -> None:
        good = load_file(file)
        for config in ({"channels": 8}, {"scale": 2}, {"groups": 4096}, {"embedding": 4000}):
            with pytest.raises(WeightsError, match="config") as error:
                weight_file.load_weights(self.changed(file, good, **config))
            assert FILE in message(error)

    def test_config_of_a_network_far_larger_than_the_file(self, file: Path) -> None:
        good = load_file(file)
        for config in ({"channels": 4096}, {"upsampled_channels": 4096}, {"blur_channels": 4096}):
            with pytest.raises(WeightsError, match="config needs") as error:
                weight_file.load_weights(self.changed(file, good, **config))
            assert FILE in message(error)

    def test_wrong_hash(self, file: Path) -> None:
        with pytest.raises(WeightsError, match="SHA-256") as error:
            weight_file.load_weights(file, "0" * 64)
        assert FILE in message(error)
        assert weight_file.file_sha256(file)[:12] in message(error)
