"""`dmsr weights`, and --offline, against the Hub on loopback."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dmsr_cli import weights
from dmsr_cli.cli.main import main
from dmsr_cli.config import tomllib
from dmsr_cli.scores import Score, to_json
from dmsr_cli.weights_table import ModelEntry, entry_text, read_weights_table
from hub_server import COMMIT, FakeHub
from private_hub import isolate, use_table
from tiny_weights import FILE, NAME, REPO, tiny_content, tiny_model

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def content() -> bytes:
    return tiny_content()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return isolate(tmp_path, monkeypatch)


@pytest.fixture
def hub(content: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with FakeHub({REPO: {FILE: content}}, writers={"hf_writer"}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


@pytest.fixture(autouse=True)
def table(tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    return use_table(tmp_path, content, monkeypatch)


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        status = main(["weights", *map(str, arguments)])
        return status, *capfd.readouterr()

    return run


@pytest.fixture
def bundled(content: bytes) -> Path:
    path = weights.BUNDLED_FOLDER / FILE
    path.parent.mkdir()
    path.write_bytes(content)
    return path


class TestList:
    def test_table(self, run: Run, hub: FakeHub, bundled: Path) -> None:
        status, out, err = run("list")
        assert (status, err) == (0, "")
        (row,) = [line for line in out.splitlines() if NAME in line]
        cells = [cell.strip() for cell in row.strip("| ").split("|")]
        size = f"{bundled.stat().st_size / 1e3:.1f} kB"
        assert cells == [NAME, "x4", size, "1,234", "bundled", "27.00 dB", "MIT"]
        assert hub.requests == []

    def test_where(self, run: Run, hub: FakeHub, cache: Path) -> None:
        assert json.loads(run("list", "--json")[1])["place"] is None
        assert "not here" in run("list")[1]
        run("pull")
        record = json.loads(run("list", "--json")[1])
        assert record["place"] == "cached"
        assert Path(record["path"]).is_relative_to(cache)
        assert record["psnr"] == {"Set5 [1.3, 15]": 27.0}
        assert record["hub"] == f"hf://{REPO}/{FILE}"
        Path(record["path"]).write_bytes(b"damaged")
        assert "cached, damaged" in run("list")[1]


class TestPull:
    def test_all_and_again(self, run: Run, hub: FakeHub, content: bytes) -> None:
        status, out, err = run("pull")
        assert (status, err) == (0, "")
        first, path = out.splitlines()
        assert first.startswith(f"{NAME}: fetched, ")
        assert Path(path.strip()).read_bytes() == content
        hub.requests.clear()
        assert f"{NAME}: here already" in run("pull", "tiny")[1]
        assert hub.requests == []
        assert f"{NAME}: fetched" in run("pull", "--force", NAME, "tiny")[1]
        assert sum(request.startswith("GET") for request in hub.requests) == 1

    def test_bundled(self, run: Run, hub: FakeHub, bundled: Path, cache: Path) -> None:
        record = json.loads(run("pull", NAME, "--json")[1])
        assert (record["status"], record["path"]) == ("there", str(bundled))
        record = json.loads(run("pull", NAME, "--json", "--force")[1])
        assert record["status"] == "fetched"
        assert Path(record["path"]).is_relative_to(cache)

    def test_a_bad_one_does_not_stop_the_others(
        self, run: Run, hub: FakeHub, content: bytes
    ) -> None:
        hub.repositories["me/two"] = {"a.safetensors": content, "b.safetensors": b"<html>" * 9}
        status, out, err = run("pull", "tinny", "hf://me/two", "hf://me/none", "hf://x", NAME)
        assert status == 1
        assert "hf://me/two/a.safetensors: fetched" in out
        assert f"{NAME}: fetched" in out
        lines = err.splitlines()
        assert [line.startswith("dmsr: error: ") for line in lines] == [True] * 4
        assert "did you mean" in lines[0]
        assert "b.safetensors" in lines[1]
        assert "is a page of HTML" in lines[1]
        assert "no repository me/none" in lines[2]
        assert "not of the form" in lines[3]

    def test_offline(self, run: Run, hub: FakeHub) -> None:
        status, out, err = run("pull", "--offline")
        assert (status, out, hub.requests) == (1, "", [])
        assert re.fullmatch(r"dmsr: error: no intact copy .* --offline forbids .*\n", err)
        assert run("pull", "--offline", "--force")[0] == 2
        assert run("pull")[0] == 0, "the option holds for one command"


class TestVerify:
    def test_intact_and_missing(self, run: Run, hub: FakeHub, bundled: Path) -> None:
        run("pull", "--force")
        status, out, _ = run("verify")
        assert status == 0
        assert f"{NAME}: intact, bundled" in out
        assert f"{NAME}: intact, cached" in out
        bundled.unlink()
        hub.requests.clear()
        assert json.loads(run("verify", NAME, "--json")[1])["status"] == "intact"
        assert hub.requests == []

    def test_missing_is_no_failure(self, run: Run) -> None:
        status, out, _ = run("verify")
        assert (status, out) == (0, f"{NAME}: not here; dmsr weights pull {NAME} fetches it\n")

    @pytest.mark.parametrize("change", [lambda old: old[:-1] + b"!", lambda old: old[:-1]])
    def test_a_bad_cached_one_is_moved_aside(
        self, run: Run, hub: FakeHub, change: Callable[[bytes], bytes], content: bytes
    ) -> None:
        run("pull")
        path = Path(run("path", NAME)[1].strip())
        path.write_bytes(change(content))
        status, out, _ = run("verify", "--json")
        record = json.loads(out)
        assert (status, record["status"], record["path"]) == (1, "bad", str(path))
        assert Path(record["moved_to"]).read_bytes() == change(content)
        assert not path.is_symlink()
        assert "not here" in run("verify")[1]
        assert f"{NAME}: fetched" in run("pull")[1]
        assert run("verify")[0] == 0
        path.write_bytes(b"damaged")
        status, out, _ = run("verify")
        assert f"{NAME}: BAD, cached: 7 bytes instead of {len(content):,}" in out
        assert ".bad\n    it is fetched anew" in out

    def test_a_bad_bundled_one_stays(self, run: Run, bundled: Path) -> None:
        bundled.write_bytes(b"damaged")
        status, out, _ = run("verify")
        assert status == 1
        assert "install dmsr-cli again" in out
        assert bundled.read_bytes() == b"damaged"


class TestPath:
    def test_alone_on_standard_output(self, run: Run, hub: FakeHub, bundled: Path) -> None:
        for name in (NAME, "tiny"):
            assert run("path", name) == (0, f"{bundled}\n", "")
        assert run("path", "tiny", "-s", "2")[0] == 2

    def test_not_here(self, run: Run, hub: FakeHub) -> None:
        status, out, err = run("path", NAME)
        assert (status, out) == (1, "")
        assert err.endswith(f"dmsr weights pull {NAME}\n")
        assert run("path", f"hf://{REPO}/{FILE}")[0] == 1
        run("pull", f"hf://{REPO}/{FILE}")
        hub.requests.clear()
        assert run("path", f"hf://{REPO}/{FILE}")[1].endswith(f"{FILE}\n")
        assert hub.requests == []


class TestPush:
    @pytest.fixture(autouse=True)
    def token(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_TOKEN", "hf_writer")

    @pytest.fixture
    def trained(self, tmp_path: Path) -> Path:
        path = tmp_path / "mine.safetensors"
        weights.save_weights(tiny_model(seed=1), path)
        return path

    def test_the_entry_is_for_weights_toml(
        self, run: Run, hub: FakeHub, trained: Path, tmp_path: Path
    ) -> None:
        status, out, err = run("push", trained, "--repo", "me/mine", "--license", "CC0-1.0")
        assert status == 0, err
        (written,) = tomllib.loads(out)["models"].values()
        table = tmp_path / "new.toml"
        table.write_text(out)
        entry = read_weights_table(table)["mine-x4"]
        assert entry.revision == hub.heads["me/mine"] != COMMIT
        assert (entry.repo, entry.license) == ("me/mine", "CC0-1.0")
        assert written["parameters"] == sum(p.numel() for p in tiny_model().parameters())
        files = hub.repositories["me/mine"]
        assert files["mine-x4.safetensors"] == trained.read_bytes()
        assert sorted(files) == [".gitattributes", "README.md", "mine-x4.safetensors"]
        assert f"hf://me/mine/{entry.file}" in files["README.md"].decode()
        assert weights.fetch_weights(entry).read_bytes() == trained.read_bytes()

    def test_scores_go_into_the_card(
        self, run: Run, hub: FakeHub, trained: Path, tmp_path: Path
    ) -> None:
        score = Score("Mine", 4, "m", 1.3, 15.0, "float", 3, 27.541, 0.8, 25.0, 0.7, None, None)
        other = dataclasses.replace(score, scale=2, psnr=33.0)
        file = tmp_path / "scores.json"
        file.write_text(to_json([score, other]))
        status, out, err = run("push", trained, "--repo", "me/mine", "--scores", file)
        assert status == 0, err
        (written,) = tomllib.loads(out)["models"].values()
        assert written["psnr"] == {"Mine [1.3, 15]": 27.54}
        card = hub.repositories["me/mine"]["README.md"].decode()
        assert "| Mine | float | 1.3 | 15 | 25.00 / 0.7000 | 27.54 / 0.8000 |" in card
        assert "33.00" not in card  # that is of a x2 model
        file.write_text("{}")
        status, out, err = run("push", trained, "--repo", "me/mine", "--scores", file)
        assert (status, out) == (2, "")
        assert "scores.json: not scores" in err

    def test_several_in_one_repository(
        self, run: Run, hub: FakeHub, trained: Path, tmp_path: Path
    ) -> None:
        assert run("push", trained, "--repo", "me/mine")[0] == 0
        other = tmp_path / "mine-x2.safetensors"
        weights.save_weights(tiny_model(seed=2, scale=2), other)
        hub.repositories["me/mine"]["foreign.safetensors"] = b"\x02\0\0\0\0\0\0\0{}"
        status, out, err = run("push", other, "--repo", "me/mine")
        assert status == 0, err
        assert list(tomllib.loads(out)["models"]) == ["mine-x2"]
        card = hub.repositories["me/mine"]["README.md"].decode()
        assert "mine-x4.safetensors" in card
        assert "mine-x2.safetensors" in card
        assert "foreign" not in card
        assert weights.file_sha256(trained) in card

    def test_nothing_is_overwritten_unasked(
        self, run: Run, hub: FakeHub, trained: Path, content: bytes
    ) -> None:
        files = hub.repositories["me/mine"] = {"mine-x4.safetensors": content, "README.md": b"own"}
        status, out, err = run("push", trained, "--repo", "me/mine")
        assert (status, out) == (1, "")
        assert "--overwrite" in err
        assert files["mine-x4.safetensors"] == content
        assert run("push", trained, "--repo", "me/mine", "--name", "other")[0] == 0
        assert files["README.md"] == b"own"
        assert run("push", trained, "--repo", "me/mine", "--overwrite")[0] == 0
        assert files["mine-x4.safetensors"] == trained.read_bytes()
        assert files["README.md"] != b"own"

    def test_somebody_else_pushes_at_the_same_time(
        self, run: Run, hub: FakeHub, trained: Path
    ) -> None:
        hub.repositories["me/mine"] = {}
        hub.meanwhile = lambda: hub.heads.update({"me/mine": "f" * 40})
        status, _, err = run("push", trained, "--repo", "me/mine")
        assert status == 1
        assert "somebody else" in err

    def test_private_and_branch(self, run: Run, hub: FakeHub, trained: Path) -> None:
        status, _, err = run(
            "push", trained, "--repo", "me/mine", "--private", "--revision", "trial"
        )
        assert status == 0, err
        assert "me/mine" in hub.readers
        assert "trial" in hub.revisions

    def test_token(
        self, run: Run, hub: FakeHub, trained: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HF_TOKEN", "hf_reader")
        assert "use a HF_TOKEN that may write" in run("push", trained, "--repo", "me/mine")[2]
        monkeypatch.delenv("HF_TOKEN")
        hub.requests.clear()
        status, _, err = run("push", trained, "--repo", "me/mine")
        assert status == 1
        assert "pushing needs a token" in err
        assert err.count("\n") == 1
        assert hub.requests == []

    def test_dry_run_and_wrong_arguments(
        self, run: Run, hub: FakeHub, trained: Path, tmp_path: Path
    ) -> None:
        status, out, err = run("push", trained, "--repo", "me/mine", "--dry-run")
        assert status == 0
        assert tomllib.loads(out)["models"]["mine-x4"]["revision"] == "main"
        assert "to me/mine as mine-x4.safetensors" in err
        for arguments in (
            (trained, "--repo", "mine"),
            (trained, "--repo", "me/mine", "--name", "../a"),
            (trained, trained, "--repo", "me/mine"),
            (trained, trained, "--repo", "me/mine", "--name", "a"),
        ):
            assert run("push", *arguments)[0] == 2
        broken = tmp_path / "broken.safetensors"
        broken.write_bytes(trained.read_bytes()[:-2])
        assert run("push", broken, "--repo", "me/mine")[0] == 1
        assert hub.requests == []

    def test_a_published_name(self, run: Run, hub: FakeHub) -> None:
        status, out, err = run("push", NAME, "--repo", "mirror/tiny")
        assert status == 0, err
        (entry,) = tomllib.loads(out)["models"].values()
        assert entry["psnr"] == {"Set5 [1.3, 15]": 27.0}
        assert entry["license"] == "MIT"


def test_entry_text_is_read_back(table: Path, tmp_path: Path) -> None:
    (entry,) = read_weights_table(table).values()
    for psnr in ({}, entry.psnr):
        values = {**vars(entry), "name": "a.b-x4", "psnr": psnr}
        path = tmp_path / "again.toml"
        path.write_text(entry_text(ModelEntry(**values)))
        assert read_weights_table(path)["a.b-x4"] == ModelEntry(**values)


def test_a_fine_tune_is_used_elsewhere(hub: FakeHub, tmp_path: Path) -> None:
    """Pushed by one user, restored with by another one, whose HF_HOME is empty."""
    for scale in (2, 4):
        path = tmp_path / f"dmsr-x{scale}.safetensors"
        weights.save_weights(tiny_model(seed=scale, scale=scale), path)
    Image.fromarray(np.full((20, 24, 3), 90, np.uint8)).save(tmp_path / "photo.png")

    def dmsr(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        fixed = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "COLUMNS": "200"}
        return subprocess.run(
            [sys.executable, "-m", "dmsr_cli", *arguments],
            cwd=tmp_path,
            env={**os.environ, **fixed, "OMP_NUM_THREADS": "1", **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    files = ("dmsr-x2.safetensors", "dmsr-x4.safetensors")
    push = ("weights", "push", *files, "--repo", "me/mine", "--name", "mine", "--name", "mine")
    done = dmsr(*push, HF_HOME=str(tmp_path / "mine"), HF_TOKEN="hf_writer")
    assert done.returncode == 0, done.stderr
    hub.requests.clear()
    other = {"HF_HOME": str(tmp_path / "other")}
    upscale = ("upscale", "photo.png", "--model", "hf://me/mine", "--json", "-s")
    done = dmsr(*upscale, "4", **other)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"] == "hf://me/mine/mine-x4.safetensors"
    assert Image.open(tmp_path / "photo_x4.png").size == (96, 80)
    assert not any("mine-x2" in request for request in hub.requests), "only what is needed"
    assert "%|" not in done.stderr, "the library's own bar"
    assert done.stderr.splitlines() == ["hf://me/mine/mine-x4.safetensors on cpu"]


@pytest.mark.parametrize("command", ["upscale", "estimate", "evaluate"])
def test_offline_makes_no_request(
    hub: FakeHub, tmp_path: Path, capfd: pytest.CaptureFixture[str], command: str
) -> None:
    photo = tmp_path / "photo.png"
    Image.fromarray(np.full((20, 24, 3), 90, np.uint8)).save(photo)
    pictures = ["--data", str(tmp_path)] if command == "evaluate" else [str(photo)]
    assert main([command, *pictures, "--model", f"hf://{REPO}/{FILE}", "--offline"]) == 1
    assert f"hf://{REPO}/{FILE} is on this computer" in capfd.readouterr().err
    assert hub.requests == []
