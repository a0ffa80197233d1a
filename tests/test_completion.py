"""What a shell offers when Tab is pressed, asked of click and of the shells that are here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import CompletionItem, ShellComplete

import dmsr_cli
from command_line import dmsr
from dmsr_cli.cli.main import COMMANDS, cli

needs_bash = pytest.mark.skipif(
    sys.platform == "win32" or shutil.which("bash") is None, reason="there is no bash"
)
needs_zsh = pytest.mark.skipif(shutil.which("zsh") is None, reason="there is no zsh")
needs_fish = pytest.mark.skipif(shutil.which("fish") is None, reason="there is no fish")


def offered(*words: str) -> list[CompletionItem]:
    """What completes the last word."""
    shell = ShellComplete(cli, {}, "dmsr", "_DMSR_COMPLETE")
    return shell.get_completions(list(words[:-1]), words[-1])


def values(*words: str) -> list[str]:
    return [item.value for item in offered(*words)]


def test_commands_with_their_lines() -> None:
    assert {item.value: item.help for item in offered("")} == COMMANDS
    assert values("up") == ["upscale"]
    assert "--version" in values("--")


def test_options_of_a_command() -> None:
    assert values("upscale", "--denoi") == ["--denoise"]
    assert "--sort" in values("estimate", "--")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["upscale", "--precision", "f"], ["fp32", "fp16"]),
        (["upscale", "--compare-mode", "z"], ["zoom"]),
        (["upscale", "--device", "cu"], ["cuda"]),
        (["upscale", "--tile", "a"], ["auto"]),
        (["upscale", "--format", "jp"], ["jp2", "jpeg", "jpg"]),
        (["train", "--recipe", "l"], ["lite"]),
        (["estimate", "--model", "dmsr-lite-x"], [f"dmsr-lite-x{scale}" for scale in (2, 3, 4)]),
        (["upscale", "--compare-models", "a,dmsr-lite-x2"], ["a,dmsr-lite-x2"]),
        (["upscale", "--compare-models", "a,b"], []),
        (["completion", "z"], ["zsh"]),
    ],
)
def test_words(words: list[str], expected: list[str]) -> None:
    found = [value for value in values(*words) if value not in ("jpe", "jpf")]
    assert found == expected


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (["upscale", "pho"], "file"),
        (["upscale", "photo.png", "-o", "re"], "file"),
        (["upscale", "--kernel", "k"], "file"),
        (["upscale", "--model", "my.saf"], "file"),
        (["estimate", "pho"], "file"),
        (["train", "--recipe", "mine"], "file"),
        (["train", "--data", "pho"], "dir"),
        (["evaluate", "--data", "pho"], "dir"),
    ],
)
def test_files(words: list[str], kind: str) -> None:
    assert [(item.value, item.type) for item in offered(*words)] == [(words[-1], kind)]


def test_a_damaged_table_offers_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    table = tmp_path / "weights.toml"
    table.write_text("[[[")
    monkeypatch.setattr("dmsr_cli.weights_table.find_weights_table", lambda: table)
    assert [item.type for item in offered("upscale", "--model", "dmsr")] == ["file"]


def test_an_unknown_shell_is_refused() -> None:
    refused = dmsr("completion", "ksh")
    assert refused.returncode == 2
    assert "bash" in refused.stderr


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """One in which `dmsr` is a command, and the shells find no settings of the user."""
    command = tmp_path / "bin" / "dmsr"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m dmsr_cli "$@"\n')
    command.chmod(0o755)
    places = f"{command.parent}{os.pathsep}{os.environ['PATH']}"
    source = str(Path(dmsr_cli.__file__).parents[1])
    home = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    return {**os.environ, **home, "PATH": places, "PYTHONPATH": source}


def answer_of(shell: list[str], program: str, environment: dict[str, str]) -> list[str]:
    """The lines that a program for a shell prints."""
    done = subprocess.run(
        [*shell, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.split("\n")[:-1]


@needs_bash
def test_bash(environment: dict[str, str]) -> None:
    program = """
        eval "$(dmsr completion bash)"
        complete -p dmsr
        COMP_WORDS=(dmsr upscale --model dmsr-lite-x); COMP_CWORD=3
        _dmsr_completion dmsr
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    registered, *models = answer_of(["bash", "--norc"], program, environment)
    assert "-F _dmsr_completion dmsr" in registered
    assert models == ["dmsr-lite-x2", "dmsr-lite-x3", "dmsr-lite-x4"]


@needs_zsh
def test_zsh(environment: dict[str, str]) -> None:
    program = """
        autoload -U compinit; compinit -D
        eval "$(dmsr completion zsh)"
        print $_comps[dmsr]
        compadd() { print -l $completions }
        _describe() { print -l $completions_with_descriptions }
        words=(dmsr est); CURRENT=2
        _dmsr_completion
    """
    registered, offer = answer_of(["zsh", "-f"], program, environment)
    assert registered == "_dmsr_completion"
    assert offer == f"estimate:{COMMANDS['estimate']}"


@needs_fish
def test_fish(environment: dict[str, str]) -> None:
    program = "dmsr completion fish | source; complete -C 'dmsr upscale --precision fp'"
    assert sorted(answer_of(["fish", "--no-config"], program, environment)) == ["fp16", "fp32"]


def test_tab_waits_for_no_heavy_module() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "dmsr_cli"],
        env={
            **os.environ,
            "PYTHONPATH": str(Path(dmsr_cli.__file__).parents[1]),
            "_DMSR_COMPLETE": "bash_complete",
            "COMP_WORDS": "dmsr upscale --model dmsr-lite-x4",
            "COMP_CWORD": "3",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "plain,dmsr-lite-x4\n"
    loaded = {line.split("|")[-1].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "click" in loaded
    assert not loaded & {"torch", "numpy", "PIL", "rich", "huggingface_hub", "safetensors"}
