"""The table of published models: where it is, what it says, what it must not say."""

from __future__ import annotations

from pathlib import Path

import pytest

from dmsr_cli import weights, weights_table
from dmsr_cli.errors import SettingsError, WeightsError
from tiny_weights import NAME, REPO, TINY, message, table_text, tiny_content


def test_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the package when installed, else at the top of the checkout."""
    package = tmp_path / "src" / "dmsr_cli"
    package.mkdir(parents=True)
    monkeypatch.setattr(weights_table, "__file__", str(package / "weights_table.py"))
    with pytest.raises(WeightsError, match="install dmsr-cli again"):
        weights.find_weights_table()
    for place in (tmp_path / "weights.toml", package / "weights.toml"):
        place.touch()
        assert weights.find_weights_table() == place


def test_read(tmp_path: Path) -> None:
    path = tmp_path / "weights.toml"
    path.write_text(table_text(tiny_content()))
    entry = weights.read_weights_table(path)[NAME]
    assert (entry.name, entry.family, entry.repo, entry.size) == (
        NAME,
        "tiny",
        REPO,
        len(tiny_content()),
    )
    assert entry.config == TINY
    assert entry.psnr == {"Set5 [1.3, 15]": 27.0}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"colour": 1}, "unknown setting 'colour'"),
        ({"name": "other-x4"}, "without 'name'"),
        ({"size": "big"}, "size"),
        ({"size": 0}, "positive"),
        ({"sha256": None}, "sha256"),
        ({"sha256": "12"}, "sha256"),
        ({"sha256": "G" * 64}, "sha256"),
        ({"file": "../x.safetensors"}, "file"),
        ({"file": "a/x.safetensors"}, "file"),
        ({"file": "a\\x.safetensors"}, "file"),
        ({"file": "x.pth"}, "file"),
        ({"repo": "dmsr"}, "repo"),
        ({"repo": "a/../b"}, "repo"),
        ({"scale": 2}, "scale"),
        ({"scale": 4.0}, "scale"),
    ],
)
def test_refused(tmp_path: Path, changes: dict[str, object], expected: str) -> None:
    path = tmp_path / "weights.toml"
    path.write_text(table_text(tiny_content(), **changes))
    with pytest.raises(SettingsError, match=expected) as error:
        weights.read_weights_table(path)
    assert NAME in message(error)


@pytest.mark.parametrize(
    "text",
    [
        "[other]",
        "models = 1",
        "[models]\ntiny-x4 = 1",
        "[models.tiny-x4]\nconfig = 1",
        "[models.tiny-x4]\npsnr = 1",
        "[models.tiny-x4]\npsnr = { a = true }",
        "[models.tiny-x4.config]\nwidth = 1",
    ],
)
def test_wrong_form(tmp_path: Path, text: str) -> None:
    path = tmp_path / "weights.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=r"weights\.toml") as error:
        weights.read_weights_table(path)
    message(error)
