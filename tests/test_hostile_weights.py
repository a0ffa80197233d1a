"""Weight files that somebody made to do harm, or that were damaged on their way."""

from __future__ import annotations

import gzip
import io
import json
import math
import os
import pickle
import random
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dmsr_cli import weight_file
from dmsr_cli.config import DMSRConfig
from dmsr_cli.errors import DmsrError, SettingsError, WeightsError
from dmsr_cli.hub import HubFile, parse_hub_address
from dmsr_cli.model import DMSR
from dmsr_cli.model.shapes import tensor_shapes
from dmsr_cli.safe_names import is_inner_path, is_plain_name
from dmsr_cli.safetensors_header import MAX_HEADER_BYTES
from dmsr_cli.weights import read_weights_table, resolve_model
from mutations import MUTATIONS, mutated, parts_of, put_together
from tiny_weights import FILE, TINY, message, table_text, tiny_content, tiny_model

NAME = "extractor.head.weight"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / FILE
    path.write_bytes(tiny_content())
    return path


def refusal(path: Path) -> str:
    """What both readers say: the header's, and the whole file's."""
    with pytest.raises(WeightsError) as error:
        weight_file.load_weights(path)
    assert path.name in message(error)
    return message(error)


def shapes_of(network: DMSR) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


class TestMutations:
    def test_a_thousand(self, file: Path) -> None:
        """Each is refused in one line, or is a network of just the shapes that were saved."""
        chance, expected = random.Random(9), shapes_of(tiny_model())
        refused = dict.fromkeys(MUTATIONS, 0)
        names = list(MUTATIONS)
        for number in range(1000):
            name = names[number % len(names)]
            file.write_bytes(mutated(tiny_content(), name, chance))
            outcome = self.outcome(file)
            if isinstance(outcome, str):
                refused[name] += 1
                assert "\n" not in outcome, name
                assert len(outcome) < 500, name
                assert FILE in outcome, name
            else:
                assert outcome == expected, name
        assert not refused.pop("shuffle keys")
        assert all(refused.values()), refused
        assert 500 < sum(refused.values()) < 1000, refused

    @staticmethod
    def outcome(file: Path) -> str | dict[str, tuple[int, ...]]:
        try:
            return shapes_of(weight_file.load_weights(file))
        except (WeightsError, SettingsError) as error:
            return str(error)

    def test_memory_stays_bounded(self, tmp_path: Path) -> None:
        """Headers that ask for much are refused in a process that cannot have much."""
        if sys.platform != "linux":
            pytest.skip("only Linux holds a process to a limit of its addresses")
        header, values = parts_of(tiny_content())
        config = json.loads(header["__metadata__"]["dmsr_config"])
        greedy = [
            {"channels": 4096},
            {"upsampled_channels": 4096, "channels": 4096, "scale": 8},
            {"groups": 4096, "blocks": 4096},
            {"extractor_blocks": 4096},
            {"kernel_size": 63, "embedding": 3969},
            {"deblur_size": 63},
        ]
        for number, changes in enumerate(greedy):
            header["__metadata__"]["dmsr_config"] = json.dumps(config | changes)
            path = tmp_path / f"greedy-{number}.safetensors"
            path.write_bytes(put_together(header, values))
        long = (MAX_HEADER_BYTES - 10) // 2
        for number, text in enumerate(["[" * long, '{"a":' * (long // 3), "9" * long]):
            content = b'{"a":' + text.encode()
            path = tmp_path / f"long-{number}.safetensors"
            path.write_bytes(len(content).to_bytes(8, "little") + content)
        self.sparse(tmp_path / "sparse.safetensors")
        code = """
import pathlib, resource, sys
import torch, safetensors.torch, dmsr_cli.model
from dmsr_cli import weight_file
from dmsr_cli.errors import WeightsError
pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + 96 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    try:
        weight_file.load_weights(path)
    except WeightsError as error:
        print(path.name, error)
"""
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        said = done.stdout.splitlines()
        assert len(said) == len(list(tmp_path.iterdir()))
        assert "at most" in said[-1]  # the sparse one
        assert not [line for line in said if "makes no network" in line]

    @staticmethod
    def sparse(path: Path) -> None:
        """A file of a terabyte that takes no room, all of whose tensors are as its config says."""
        values = {"channels": 4096, "groups": 16, "blocks": 16}
        header: dict[str, Any] = {"__metadata__": {"dmsr_config": json.dumps(values)}}
        end = 0
        for name, shape in tensor_shapes(DMSRConfig(**values)):
            size = 2 * math.prod(shape)
            header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [end, end + size]}
            end += size
        start = put_together(header, b"")
        with path.open("wb") as file:
            file.write(start)
            file.truncate(len(start) + end)


class TestHeader:
    @pytest.mark.parametrize(
        ("field", "value", "expected"),
        [
            ("dtype", "F64", "only BF16, F16, F32"),
            ("dtype", ["F16"], "damaged header"),
            ("shape", [4, 3, 3, -3], "damaged header"),
            ("shape", [4, 3, 3, 3.0], "damaged header"),
            ("shape", [True, 3, 3, 12], "damaged header"),
            ("shape", [1] * 9, "damaged header"),
            ("shape", [4, 3, 3, 2**62], "cannot have"),
            ("shape", [4, 3, 3, 10**30], "damaged header"),
            ("shape", [0], "cannot have"),
            ("shape", [4, 27], "config needs [4, 3, 3, 3]"),
            ("data_offsets", [0, 2**40], "cannot have"),
            ("data_offsets", [2**50, 2**50 + 216], "overlap or leave gaps"),
            ("data_offsets", [216, 0], "cannot have"),
            ("data_offsets", [-216, 0], "damaged header"),
            ("data_offsets", [0], "damaged header"),
            ("data_offsets", "ab", "damaged header"),
            ("extra", 1, "damaged header"),
        ],
    )
    def test_a_field(self, file: Path, field: str, value: object, expected: str) -> None:
        header, values = parts_of(tiny_content())
        header[NAME][field] = value
        file.write_bytes(put_together(header, values))
        assert expected in refusal(file)

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            (lambda header: header.pop(NAME), "leave gaps"),
            (lambda header: header.update(more=header[NAME]), "overlap"),
            (lambda header: header.update({NAME: None}), "damaged header"),
            (lambda header: header["__metadata__"].update(format=1), "damaged header"),
            (lambda header: header.update(__metadata__=[]), "damaged header"),
            (lambda header: header.pop("__metadata__"), "no valid dmsr_config"),
        ],
    )
    def test_a_part(
        self, file: Path, change: Callable[[dict[str, Any]], object], expected: str
    ) -> None:
        header, values = parts_of(tiny_content())
        change(header)
        file.write_bytes(put_together(header, values))
        assert expected in refusal(file)

    @pytest.mark.parametrize(
        "damage",
        [
            lambda text: text.replace(b'"dtype":"F16"', b'"dtype":"F16","dtype":"F16"', 1),
            lambda text: text.replace(b'"shape":[4', b'"shape":[NaN', 1),
            lambda text: text.replace(b'"shape":[4', b'"shape":[' + b"4" * 100_000, 1),
            lambda text: text.decode().encode("utf-16"),
            lambda text: text.replace(b"extractor", b"extract\xff\xfe", 1),
        ],
        ids=["key twice", "NaN", "huge number", "UTF-16", "no UTF-8"],
    )
    def test_json_that_is_none(self, file: Path, damage: Callable[[bytes], bytes]) -> None:
        content = tiny_content()
        end = 8 + int.from_bytes(content[:8], "little")
        text = damage(content[8:end])
        assert text != content[8:end]
        file.write_bytes(len(text).to_bytes(8, "little") + text + content[end:])
        assert re.search("damaged header|not a safetensors file", refusal(file))

    def test_config_as_long_as_a_book(self, file: Path) -> None:
        header, values = parts_of(tiny_content())
        for config in ('{"x' + "x" * 9000 + '": 1}', '{"scale": "' + "4" * 9000 + '"}'):
            header["__metadata__"]["dmsr_config"] = config
            file.write_bytes(put_together(header, values))
            assert FILE in refusal(file)
        header["__metadata__"]["dmsr_config"] = " " * 20_000 + "{}"
        file.write_bytes(put_together(header, values))
        assert "no valid dmsr_config" in refusal(file)

    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"scale": 2, "channels": 5, "reduction": 3, "upsampled_channels": 7},
            {"scale": 3, "groups": 2, "blocks": 3, "extractor_blocks": 3, "blur_channels": 5},
            {"kernel_size": 9, "deblur_size": 7, "embedding": 11, "extractor_channels": 6},
        ],
    )
    def test_shapes_are_those_of_the_network(self, changes: dict[str, int]) -> None:
        small = {"channels": 4, "groups": 1, "blocks": 1, "reduction": 2} | changes
        config = DMSRConfig(**small)
        assert dict(tensor_shapes(config)) == shapes_of(DMSR(config))
        assert [name for name, _ in tensor_shapes(config)] == list(shapes_of(DMSR(config)))


def zipped() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("data.pkl", b"cos\nsystem\n(S'false'\ntR.")
    return stream.getvalue()


class TestOtherContent:
    """The content counts, whatever the name says."""

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            (zipped(), ["a zip archive, as torch.save", "docs/python.md"]),
            (pickle.dumps({"a": list(range(100))}), ["a pickle", "docs/python.md"]),
            (gzip.compress(b"a" * 1000), ["gzip", "docs/python.md"]),
            (b"\x08\x07\x12\x07pytorch\x1a\x052.4.0", ["ONNX", "docs/python.md"]),
            (b"<!DOCTYPE html><html>Log in</html>", ["HTML", "fetch it again"]),
            (b"\n <html>Log in</html>", ["HTML", "fetch it again"]),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", ["git lfs pull"]),
            (b"", ["is empty"]),
            (bytes(100), ["not a safetensors file"]),
        ],
        ids=["zip", "pickle", "gzip", "onnx", "html", "blank html", "lfs", "empty", "zeros"],
    )
    def test_is_named(self, file: Path, content: bytes, expected: list[str]) -> None:
        file.write_bytes(content)
        for part in expected:
            assert part in refusal(file)

    def test_torch_save_is_not_opened(self, tmp_path: Path) -> None:
        class Harm:
            def __reduce__(self) -> tuple[Any, ...]:
                return (Path.touch, (tmp_path / "harm",))

        for name in ("model.pth", FILE):
            torch.save({"a": Harm()}, tmp_path / name)
            with pytest.raises(WeightsError, match=r"docs/python\.md"):
                resolve_model(str(tmp_path / name))
        assert not (tmp_path / "harm").exists()

    def test_a_header_whose_length_looks_like_something_else(self, tmp_path: Path) -> None:
        """The first byte of a length may be any: 0x80 alone makes no pickle."""
        path = tmp_path / FILE
        path.write_bytes((0x780).to_bytes(8, "little") + b"{")
        assert "truncated" in refusal(path)

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
    def test_pipes_devices_and_circles(self, tmp_path: Path) -> None:
        pipe, circle, zero = (tmp_path / f"{name}.safetensors" for name in ("p", "c", "z"))
        os.mkfifo(pipe)
        circle.symlink_to(circle)
        zero.symlink_to("/dev/zero")
        for path in (pipe, circle, zero):
            assert "cannot read" in refusal(path)
            with pytest.raises(WeightsError, match="cannot read"):
                resolve_model(str(path))

    def test_a_name_that_no_file_can_have(self) -> None:
        for name in ("a\0b.safetensors", "a" * 5000 + ".safetensors"):
            for read in (weight_file.load_weights, weight_file.read_config):
                with pytest.raises(WeightsError, match="cannot read"):
                    read(Path(name))


class TestNames:
    @pytest.mark.parametrize(
        "name",
        [
            *("", ".", "..", "a/b", "/a", "a\\b", "C:a", "C:\\a", "a:stream", "a\0b", "a\nb"),
            *("CON", "con.safetensors", "Aux.txt", "nul", "COM1.safetensors", "lpt9", "COM¹"),
            *("a.", "a ", " a", "a*", "a?", 'a"b', "a<b", "a|b", "a" * 256, "ä" * 128, "\ud800"),
        ],
    )
    def test_no_plain_name(self, name: str) -> None:
        assert not is_plain_name(name)

    def test_plain_names(self) -> None:
        for name in ("a", "dmsr-lite-x4.safetensors", "v1.0", "console.txt", "com10", "größe", "-"):
            assert is_plain_name(name), name

    def test_inner_paths(self) -> None:
        for path in ("a", "a/b.safetensors", "refs/pr/1"):
            assert is_inner_path(path), path
        for path in ("/a", "a/", "a//b", "../a", "a/../b", "./a", "a/nul", "a/C:/b", ""):
            assert not is_inner_path(path), path

    @pytest.mark.parametrize(
        ("repo", "file", "revision"),
        [
            ("me/mine", "../../x.safetensors", "main"),
            ("me/mine", "/etc/x.safetensors", "main"),
            ("me/mine", "C:/x.safetensors", "main"),
            ("me/mine", "..\\x.safetensors", "main"),
            ("me/mine", "nul.safetensors", "main"),
            ("me/mine", "a.safetensors", "../../main"),
            ("me/..", "a.safetensors", "main"),
        ],
    )
    def test_of_the_hub(self, repo: str, file: str, revision: str) -> None:
        """Those that the Hub lists, too."""
        with pytest.raises(DmsrError) as error:
            HubFile(repo, file, revision)
        message(error)
        with pytest.raises(DmsrError) as error:
            parse_hub_address(f"hf://{repo}/{file}@{revision}")
        message(error)

    def test_tiny_is_tiny(self) -> None:
        assert sum(math.prod(shape) for _, shape in tensor_shapes(TINY)) < 100_000


def test_conversion_as_documented(tmp_path: Path) -> None:
    """The function on the page that the messages name."""
    page = Path(__file__).parent.parent / "docs" / "python.md"
    section = page.read_text("utf-8").split("## Weights in another format")[1]
    namespace: dict[str, Any] = {}
    exec(section.split("```python")[1].split("```")[0], namespace)
    torch.save(tiny_model().state_dict(), tmp_path / "mine.pth")
    namespace["convert"](tmp_path / "mine.pth", TINY)
    assert weight_file.read_config(tmp_path / "mine.safetensors") == TINY
    assert (tmp_path / "mine.safetensors").read_bytes() == tiny_content()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("file", "../tiny.safetensors"),
        ("file", "NUL.safetensors"),
        ("file", "a\\b.safetensors"),
        ("repo", "../tiny"),
        ("repo", "dmsr/tiny."),
        ("revision", "../../main"),
        ("revision", "/etc"),
    ],
)
def test_weights_table_cannot_name_other_folders(tmp_path: Path, key: str, value: str) -> None:
    path = tmp_path / "weights.toml"
    path.write_text(table_text(tiny_content()), "utf-8")
    assert read_weights_table(path)
    path.write_text(table_text(tiny_content(), **{key: value}), "utf-8")
    with pytest.raises(SettingsError, match=key) as error:
        read_weights_table(path)
    message(error)
