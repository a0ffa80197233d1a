"""The network by the model mixin of the Hub library: the same files as the command line's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelHubMixin

import dmsr_cli
from dmsr_cli import model, weights
from dmsr_cli.errors import DmsrError, SettingsError, WeightsError
from hub_server import FakeHub
from private_hub import isolate
from tiny_weights import TINY, message, tiny_model


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_TOKEN", "")
    return isolate(tmp_path, monkeypatch)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with FakeHub({}, writers={"hf_writer"}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def network(seed: int = 0) -> dmsr_cli.DMSR:
    torch.manual_seed(seed)
    return dmsr_cli.DMSR(TINY)


def test_it_is_the_same_network() -> None:
    made, plain = network(), tiny_model()
    assert isinstance(made, model.DMSR)
    assert isinstance(made, ModelHubMixin)
    assert made.config == TINY
    for (name, tensor), (other, expected) in zip(
        made.state_dict().items(), plain.state_dict().items(), strict=True
    ):
        assert name == other
        assert torch.equal(tensor, expected)


def test_pushed_and_taken(hub: FakeHub, tmp_path: Path) -> None:
    made = network()
    url = made.push_to_hub("me/mine", name="mine", token="hf_writer")
    assert url.endswith(hub.heads["me/mine"])
    # The file is what the command line writes, to the byte, and takes.
    weights.save_weights(made, tmp_path / "own.safetensors")
    files = hub.repositories["me/mine"]
    assert files["mine-x4.safetensors"] == (tmp_path / "own.safetensors").read_bytes()
    assert sorted(files) == [".gitattributes", "README.md", "mine-x4.safetensors"]
    taken = dmsr_cli.DMSR.from_pretrained("me/mine")
    assert isinstance(taken, dmsr_cli.DMSR)
    assert not taken.training
    assert taken.config == TINY
    expected = weights.load_weights(weights.resolve_model("hf://me/mine").path).state_dict()
    for name, tensor in taken.state_dict().items():
        assert torch.equal(tensor, expected[name])
    hub.requests.clear()
    dmsr_cli.DMSR.from_pretrained("me/mine", local_files_only=True)
    assert hub.requests == []


def test_which_file(hub: FakeHub) -> None:
    for name in ("a", "b"):
        network().push_to_hub("me/mine", name=name, token="hf_writer")
    with pytest.raises(WeightsError, match=r"a-x4\.safetensors, b-x4\.safetensors") as error:
        dmsr_cli.DMSR.from_pretrained("me/mine")
    message(error)
    dmsr_cli.DMSR.from_pretrained("me/mine", filename="b-x4.safetensors")
    with pytest.raises(WeightsError, match="pushing needs a token"):
        network().push_to_hub("me/mine")
    with pytest.raises(WeightsError, match="has another a-x4"):
        network(seed=1).push_to_hub("me/mine", name="a", token="hf_writer")


def test_private(hub: FakeHub) -> None:
    network().push_to_hub("me/mine", token="hf_writer", private=True)
    with pytest.raises(WeightsError, match="or it is private"):
        dmsr_cli.DMSR.from_pretrained("me/mine")
    dmsr_cli.DMSR.from_pretrained("me/mine", token="hf_writer")


def test_folder(tmp_path: Path) -> None:
    made = network()
    made.save_pretrained(tmp_path / "saved")
    assert {path.suffix for path in (tmp_path / "saved").iterdir()} <= {
        *(".safetensors", ".json", ".md")
    }
    taken = dmsr_cli.DMSR.from_pretrained(tmp_path / "saved")
    for name, tensor in made.state_dict().items():
        assert torch.equal(taken.state_dict()[name], tensor.half().float())
    with pytest.raises(SettingsError, match=r"0 \.safetensors files"):
        dmsr_cli.DMSR.from_pretrained(tmp_path)


def test_no_pickle(hub: FakeHub, tmp_path: Path) -> None:
    hub.repositories["me/old"] = {"pytorch_model.bin": b"\x80\x04N."}
    for filename in (None, "pytorch_model.bin"):
        with pytest.raises(DmsrError, match="safetensors") as error:
            dmsr_cli.DMSR.from_pretrained("me/old", filename=filename)
        message(error)


def test_the_network_itself_does_not_wait_for_the_hub_library() -> None:
    for path in Path(model.__file__).parent.glob("*.py"):
        assert "huggingface_hub" not in path.read_text(encoding="utf-8")
