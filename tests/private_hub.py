"""What keeps tests of the Hub to themselves: no cache, token or table of the user."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub.constants
import pytest

from dmsr_cli import weights
from tiny_weights import table_text


def isolate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test sees the user's cache, token or proxy, and no retry waits; returns the cache."""
    cache = tmp_path / "cache"
    for name in ("HF_HUB_OFFLINE", "HF_TOKEN", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_TELEMETRY", True)
    # The other protocol of large files needs servers of its own.
    monkeypatch.setattr(
        huggingface_hub.constants,
        "HF_HUB_DISABLE_XET",
        True,
        raising=False,  # not in old ones
    )
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    return cache


def use_table(tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table with one model, used instead of the project's own; nothing is bundled."""
    path = tmp_path / "weights.toml"
    path.write_text(table_text(content))
    monkeypatch.setattr("dmsr_cli.weights_table.find_weights_table", lambda: path)
    monkeypatch.setattr(weights, "BUNDLED_FOLDER", tmp_path / "bundled")
    return path
