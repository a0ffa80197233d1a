"""From a name, a path or a Hub address to a weight file: bundle, cache, Hub, path."""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest

from dmsr_cli import weights
from dmsr_cli.errors import SettingsError, WeightsError
from dmsr_cli.hub import download, offline, parse_hub_address
from hub_server import FakeHub
from private_hub import isolate, use_table
from tiny_weights import FILE, NAME, REPO, message, table_text, tiny_content


@pytest.fixture
def content() -> bytes:
    return tiny_content()


@pytest.fixture
def file(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / FILE
    path.write_bytes(content)
    return path


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return isolate(tmp_path, monkeypatch)


@pytest.fixture
def hub(content: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with FakeHub({REPO: {FILE: content, "README.md": b"text"}}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


@pytest.fixture
def table(tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    return use_table(tmp_path, content, monkeypatch)


class TestResolve:
    def test_names(self, table: Path, hub: FakeHub, content: bytes) -> None:
        sha256 = hashlib.sha256(content).hexdigest()
        for spec, scale in ((NAME, None), (NAME, 4), ("tiny", 4), ("tiny", None)):
            resolved = weights.resolve_model(spec, scale)
            assert (resolved.name, resolved.sha256) == (NAME, sha256)
            assert resolved.path.read_bytes() == content

    def test_a_cached_file_needs_no_request(self, table: Path, hub: FakeHub) -> None:
        weights.resolve_model(NAME, None)
        assert any("/resolve/main/" in request for request in hub.requests)
        hub.requests.clear()
        weights.resolve_model(NAME, None)
        assert hub.requests == []

    def test_bundled_first(self, table: Path, hub: FakeHub, content: bytes) -> None:
        bundled = weights.BUNDLED_FOLDER / FILE
        bundled.parent.mkdir()
        bundled.write_bytes(content)
        assert weights.resolve_model(NAME, None).path == bundled
        assert hub.requests == []
        # A bundled file of another version is passed over.
        bundled.write_bytes(content[:-1] + b"!")
        assert weights.resolve_model(NAME, None).path.read_bytes() == content

    def test_find_local_weights(self, table: Path, hub: FakeHub) -> None:
        entry = weights.read_weights_table()[NAME]
        assert weights.find_local_weights(entry) is None
        fetched = weights.fetch_weights(entry)
        assert weights.find_local_weights(entry) == fetched

    @pytest.mark.parametrize(
        ("spec", "scale", "expected"),
        [
            (NAME, 2, f"{NAME} is a x4 model; use -s 4"),
            ("tiny", 2, "there is no x2 model of tiny; use -s 4"),
            ("tinny-x4", None, f"did you mean {NAME}"),
            ("elephant", None, f"known are {NAME}"),
            ("", None, "unknown model"),
            ("~nobody/x", None, "unknown model"),
            ("a" * 260, None, "unknown model"),
        ],
    )
    def test_wrong_names(self, table: Path, spec: str, scale: int | None, expected: str) -> None:
        with pytest.raises(SettingsError) as error:
            weights.resolve_model(spec, scale)
        assert expected in message(error)

    def test_sibling_of_the_wanted_scale_is_named(self, table: Path, content: bytes) -> None:
        text = table_text(content)
        x2 = text.replace("tiny-x4", "tiny-x2").replace("scale = 4", "scale = 2")
        table.write_text(f"{text}\n{x2}")
        with pytest.raises(SettingsError, match="use -s 4 or --model tiny-x2"):
            weights.resolve_model(NAME, 2)

    def test_path(self, table: Path, file: Path, tmp_path: Path) -> None:
        resolved = weights.resolve_model(str(file), 4)
        assert resolved == weights.ResolvedWeights(FILE, file, None)
        plain = tmp_path / "weights-without-suffix"
        plain.write_bytes(file.read_bytes())
        assert weights.resolve_model(str(plain), None).path == plain
        with pytest.raises(SettingsError, match=f"{FILE} is a x4 model; use -s 4"):
            weights.resolve_model(str(file), 3)

    def test_missing_path(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match="No such file"):
            weights.resolve_model(str(tmp_path / "no.safetensors"), 4)
        for name in ("no\n.safetensors", "no\n.pth"):
            with pytest.raises(WeightsError) as error:
                weights.resolve_model(str(tmp_path / name), 4)
            message(error)

    @pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".bin", ".PKL", ".safetensors", ""])
    def test_pickles_are_never_opened(self, table: Path, tmp_path: Path, suffix: str) -> None:
        marker = tmp_path / "code-was-run"

        class Bomb:
            def __reduce__(self) -> tuple[object, tuple[str]]:
                return (os.mkdir, (str(marker),))

        path = tmp_path / f"model{suffix}"
        path.write_bytes(pickle.dumps(Bomb()))
        archive = tmp_path / f"archive{suffix}"
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("archive/data.pkl", pickle.dumps(Bomb()))
        for each in (path, archive):
            with pytest.raises(WeightsError, match="only safetensors files are loaded") as error:
                weights.resolve_model(str(each), None)
            assert each.name in message(error)
        assert not marker.exists()


class TestHub:
    def test_forms_of_the_address(self, hub: FakeHub, content: bytes) -> None:
        hub.revisions = ("main", "v1", "refs/pr/1")
        for spec, name in [
            (f"hf://{REPO}", f"hf://{REPO}/{FILE}"),
            (f"hf://{REPO}/{FILE}", f"hf://{REPO}/{FILE}"),
            (f"hf://{REPO}@v1", f"hf://{REPO}/{FILE}@v1"),
            (f"hf://{REPO}/{FILE}@refs/pr/1", f"hf://{REPO}/{FILE}@refs/pr/1"),
        ]:
            resolved = weights.resolve_model(spec, 4)
            assert (resolved.name, resolved.sha256) == (name, None)
            assert resolved.path.read_bytes() == content
        with pytest.raises(SettingsError, match="x4 model"):
            weights.resolve_model(f"hf://{REPO}", 2)

    @pytest.mark.parametrize(
        "rest",
        [
            "",
            "dmsr",
            "dmsr/",
            "a/b/",
            "a/b@",
            "a/b/../c",
            "a/b//c",
            "a b/c",
            "a/b\\c",
            "/b",
            "a/b/c\nd",
        ],
    )
    def test_malformed_address(self, rest: str) -> None:
        with pytest.raises(SettingsError, match="not of the form") as error:
            weights.resolve_model(f"hf://{rest}", None)
        message(error)

    def test_which_file(self, hub: FakeHub, content: bytes) -> None:
        hub.repositories["dmsr/two"] = {"a.safetensors": content, "b.safetensors": content}
        hub.repositories["dmsr/none"] = {"model.pth": b""}
        with pytest.raises(WeightsError, match=r"a\.safetensors, b\.safetensors"):
            weights.resolve_model("hf://dmsr/two", None)
        with pytest.raises(WeightsError, match=r"no \.safetensors file"):
            weights.resolve_model("hf://dmsr/none", None)
        with pytest.raises(WeightsError, match="only safetensors"):
            weights.resolve_model("hf://dmsr/none/model.pth", None)

    @pytest.mark.parametrize(
        ("spec", "expected"),
        [
            ("hf://dmsr/nothing/a.safetensors", "no repository dmsr/nothing"),
            ("hf://dmsr/nothing", "no repository dmsr/nothing"),
            (f"hf://{REPO}/{FILE}@v9", "no revision 'v9'"),
            (f"hf://{REPO}@v9", "no revision 'v9'"),
            (f"hf://{REPO}/a.safetensors", "no such file"),
            ("hf://a--b/c..d/x.safetensors", "no valid Hub repository name"),
        ],
    )
    def test_not_there(self, hub: FakeHub, spec: str, expected: str) -> None:
        with pytest.raises(WeightsError, match=expected) as error:
            weights.resolve_model(spec, None)
        message(error)

    @pytest.mark.parametrize(
        ("trouble", "expected"),
        [
            ("html", "does not come from a Hub"),
            ("hang up", "check the network connection"),
            ("gated", "accept its terms"),
            ("denied", "HF_TOKEN"),
            (403, "forbids"),
            (429, "too many requests"),
            (500, "HTTP status 500"),
            (503, "HTTP status 503"),
        ],
    )
    @pytest.mark.parametrize("spec", [f"hf://{REPO}/{FILE}", f"hf://{REPO}", NAME])
    def test_trouble(
        self, table: Path, hub: FakeHub, spec: str, trouble: str | int, expected: str
    ) -> None:
        hub.trouble = trouble
        with pytest.raises(WeightsError, match=expected) as error:
            weights.resolve_model(spec, None)
        assert REPO in message(error)

    def test_connection_cut_leaves_no_file(
        self, table: Path, hub: FakeHub, private_cache: Path
    ) -> None:
        hub.trouble = "cut"
        with pytest.raises(WeightsError, match="check the network connection") as error:
            weights.resolve_model(NAME, None)
        message(error)
        assert list(private_cache.rglob("*.safetensors")) == []
        hub.trouble = None
        assert weights.resolve_model(NAME, None).path.is_file()

    def test_a_cut_connection_is_taken_up_where_it_ended(self, hub: FakeHub) -> None:
        content = os.urandom(2**20)
        hub.repositories[REPO]["large.bin.safetensors"] = content
        hub.trouble = "cut once"
        counts: list[tuple[int, int | None]] = []
        where = parse_hub_address(f"hf://{REPO}/large.bin.safetensors")
        path = download(where, on_bytes=lambda *count: counts.append(count))
        assert path.read_bytes() == content
        assert hub.ranges == ["", "bytes=524288-"]
        assert counts[-1] == (len(content), len(content))
        assert len(counts) > 4

    @pytest.mark.parametrize("trouble", ["html body", "body", "cut", "hang up"])
    def test_nothing_wrong_stays_in_the_cache(
        self, hub: FakeHub, private_cache: Path, trouble: str, content: bytes
    ) -> None:
        hub.trouble = trouble
        with pytest.raises(WeightsError) as error:
            weights.resolve_model(f"hf://{REPO}/{FILE}")
        message(error)
        assert list(private_cache.rglob("*.safetensors")) == []
        blobs = [path for path in private_cache.rglob("blobs/*") if path.suffix != ".bad"]
        assert blobs == []
        hub.trouble = None
        assert weights.resolve_model(f"hf://{REPO}/{FILE}").path.read_bytes() == content

    def test_a_busy_hub_is_waited_for_within_limits(
        self, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        waited: list[float] = []
        monkeypatch.setattr("time.sleep", waited.append)
        hub.trouble, hub.trouble_left, hub.retry_after = 429, 2, "7"
        assert weights.resolve_model(f"hf://{REPO}/{FILE}").path.is_file()
        assert waited == [7, 7]
        hub.trouble_left, hub.retry_after = 9, "3600"
        with pytest.raises(WeightsError, match="wait 3600 seconds") as error:
            weights.resolve_model(f"hf://{REPO}/other.safetensors")
        message(error)
        assert waited == [7, 7]
        assert hub.trouble_left == 8
        hub.retry_after = "Wed, 21 Oct 2026 07:28:00 GMT"
        with pytest.raises(WeightsError, match="wait some minutes"):
            weights.resolve_model(f"hf://{REPO}/other.safetensors")

    def test_no_answer_ends_in_time(self, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
        # The library takes its time-out when it is imported.
        hub.trouble = "hang"
        original = huggingface_hub.get_hf_file_metadata
        hasty = functools.partial(original, timeout=0.2)
        monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", hasty)
        with pytest.raises(WeightsError, match="check the network connection") as error:
            weights.resolve_model(f"hf://{REPO}/{FILE}")
        assert "imeout" in message(error)
        assert len(hub.requests) == 1

    def test_what_is_cached_is_used_where_the_hub_is_not(self, hub: FakeHub) -> None:
        spec = f"hf://{REPO}"
        fetched = weights.resolve_model(spec).path
        for hub.trouble in ("hang up", "html", "denied", "gated", 500, 429):
            assert weights.resolve_model(spec).path == fetched
        hub.trouble = None
        with pytest.raises(WeightsError, match="no revision"):
            weights.resolve_model(f"{spec}@v9")

    @pytest.mark.parametrize(
        ("number", "expected"),
        [(errno.ENOSPC, "No space left"), (errno.EROFS, "Read-only"), (errno.EACCES, "denied")],
    )
    def test_cache_that_takes_nothing(
        self, hub: FakeHub, monkeypatch: pytest.MonkeyPatch, number: int, expected: str
    ) -> None:
        def fail(*arguments: object, **options: object) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr("huggingface_hub.file_download.http_get", fail)
        with pytest.raises(WeightsError, match=expected) as error:
            weights.resolve_model(f"hf://{REPO}")
        assert "HF_HOME" in message(error)

    def test_cache_that_is_no_folder(self, hub: FakeHub, private_cache: Path) -> None:
        private_cache.write_bytes(b"")
        with pytest.raises(WeightsError, match="set HF_HOME to another folder") as error:
            weights.resolve_model(f"hf://{REPO}")
        message(error)

    def test_private_repository(
        self, hub: FakeHub, content: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hub.readers[REPO] = "hf_reader"
        for token in (None, "hf_other"):
            if token:
                monkeypatch.setenv("HF_TOKEN", token)
            with pytest.raises(WeightsError, match=r"or it is private.*HF_TOKEN") as error:
                weights.resolve_model(f"hf://{REPO}")
            message(error)
        monkeypatch.setenv("HF_TOKEN", "hf_reader")
        assert weights.resolve_model(f"hf://{REPO}").path.read_bytes() == content

    def test_redirection(
        self, hub: FakeHub, content: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        with FakeHub({REPO: {FILE: content}}) as store:
            hub.elsewhere = store.url
            assert weights.resolve_model(f"hf://{REPO}").path.read_bytes() == content
            assert any(request.startswith("GET") for request in store.requests)
            assert store.tokens == {None}

    def test_scale_decides_between_several(self, hub: FakeHub, content: bytes) -> None:
        files = {"a-x4.safetensors": content, "a-x2.safetensors": b"", "README.md": b""}
        hub.repositories["me/mine"] = files
        assert weights.resolve_model("hf://me/mine", 4).name == "hf://me/mine/a-x4.safetensors"
        for scale, expected in ((None, "-s 2, 3 or 4"), (3, "a-x2")):
            with pytest.raises(WeightsError, match=expected) as error:
                weights.resolve_model("hf://me/mine", scale)
            message(error)
        found = {2: "hf://me/mine/a-x2.safetensors", 4: "hf://me/mine/a-x4.safetensors"}
        assert weights.models_by_scale("hf://me/mine") == found
        files["b-x4.safetensors"] = content
        assert weights.models_by_scale("hf://me/mine") == {}
        with pytest.raises(WeightsError, match="name one of them"):
            weights.resolve_model("hf://me/mine", 4)

    def test_offline_takes_what_is_cached(self, table: Path, hub: FakeHub) -> None:
        fetched = weights.resolve_model(f"hf://{REPO}").path
        hub.requests.clear()
        with offline():
            assert weights.resolve_model(f"hf://{REPO}").path == fetched
            assert weights.resolve_model(f"hf://{REPO}/{FILE}").path == fetched
            for spec in (
                f"hf://{REPO}/b.safetensors",
                "hf://me/mine",
                "hf://me/mine/b.safetensors",
            ):
                with pytest.raises(WeightsError, match="--offline forbids") as error:
                    weights.resolve_model(spec)
                assert "dmsr weights pull" in message(error)
            fetched.write_bytes(b"damaged")
            with pytest.raises(WeightsError, match="--offline forbids"):
                weights.resolve_model(NAME)
        assert hub.requests == []

    def test_nobody_listens(self, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with FakeHub({}) as server:
            closed = server.url
        monkeypatch.setenv("HF_ENDPOINT", closed)
        with pytest.raises(WeightsError, match="check the network connection") as error:
            weights.resolve_model(NAME, None)
        message(error)

    def test_wrong_bytes_are_refused_and_replaced(
        self, table: Path, hub: FakeHub, content: bytes
    ) -> None:
        hub.trouble = "body"
        for _ in range(2):  # the wrong file is in the cache the second time
            with pytest.raises(WeightsError, match="SHA-256") as error:
                weights.resolve_model(NAME, None)
            assert hashlib.sha256(content).hexdigest()[:12] in message(error)
            assert hashlib.sha256(bytes(len(content))).hexdigest()[:12] in message(error)
        hub.trouble = None
        assert weights.resolve_model(NAME, None).path.read_bytes() == content

    def test_another_version_on_the_hub_is_not_used(
        self, table: Path, hub: FakeHub, private_cache: Path
    ) -> None:
        hub.repositories[REPO][FILE] = b"another"
        with pytest.raises(WeightsError, match="install the newest dmsr-cli") as error:
            weights.resolve_model(NAME)
        message(error)
        assert list(private_cache.rglob("*.safetensors")) == []
        assert [path.read_bytes() for path in private_cache.rglob("*.bad")] == [b"another"]

    def test_page_in_place_of_the_file(self, hub: FakeHub) -> None:
        hub.trouble = "html body"
        with pytest.raises(WeightsError, match="not the whole file") as error:
            weights.resolve_model(f"hf://{REPO}/{FILE}")
        assert "proxy" in message(error)

    def test_wrong_bytes_without_a_hash(self, hub: FakeHub) -> None:
        hub.trouble = "body"
        with pytest.raises(WeightsError, match="came damaged, and is not used"):
            weights.resolve_model(f"hf://{REPO}/{FILE}", None)

    def test_damaged_cache_and_no_network(
        self, table: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        weights.resolve_model(NAME, None).path.write_bytes(b"damaged")
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(WeightsError, match="HF_HUB_OFFLINE") as error:
            weights.resolve_model(NAME, None)
        message(error)

    def test_environment_is_honoured(self, hub: FakeHub, tmp_path: Path) -> None:
        """HF_ENDPOINT, HF_HOME, HF_TOKEN and HF_HUB_OFFLINE, in a process of its own."""
        program = (
            "import sys\n"
            "from dmsr_cli.errors import WeightsError\n"
            "from dmsr_cli.weights import resolve_model\n"
            "assert not {'torch', 'huggingface_hub'} & set(sys.modules), 'imported too early'\n"
            "for spec in sys.argv[1:]:\n"
            "    try:\n"
            "        print(resolve_model(spec).path)\n"
            "    except WeightsError as error:\n"
            "        print('ERROR', error)\n"
        )
        known, other = f"hf://{REPO}/{FILE}", f"hf://{REPO}/other.safetensors"

        def run(*specs: str, **environment: str) -> list[str]:
            ran = subprocess.run(
                [sys.executable, "-c", program, *specs],
                env=os.environ | {"HF_HOME": str(tmp_path / "home"), **environment},
                capture_output=True,
                text=True,
                check=True,
            )
            return ran.stdout.splitlines()

        (path,) = run(known, HF_TOKEN="hf_secret", HF_HUB_DISABLE_TELEMETRY="1")
        assert path.startswith(str(tmp_path / "home"))
        assert "Bearer hf_secret" in hub.tokens
        hub.requests.clear()
        offline = run(known, other, HF_HUB_OFFLINE="1")
        assert offline[0] == path
        assert offline[1].startswith("ERROR")
        assert "HF_HUB_OFFLINE" in offline[1]
        assert hub.requests == []
