"""The `dmsr` command: finds the subcommand, and turns errors into one line and an exit status."""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

from dmsr_cli import __version__
from dmsr_cli.errors import DmsrError
from dmsr_cli.files import reason_of
from dmsr_cli.interruption import end_at_once
from dmsr_cli.locks import released_at_the_end
from dmsr_cli.processes import launched_rank

COMMANDS = {
    "upscale": "Restore pictures at x2, x3, x4, or any size.",
    "estimate": "Show what is wrong with pictures: blur kernel and noise.",
    "train": "Train a model on a folder of pictures.",
    "evaluate": "Score a model on a folder of pictures.",
    "weights": "List, fetch, verify and publish models.",
    "export": "Write a model as ONNX files for other programs.",
    "completion": "Print the script that lets a shell complete dmsr.",
}
"""Subcommands, each in the module of its name, with the line that `dmsr --help` shows."""

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""
_HUB_QUIET = {
    "HF_HUB_VERBOSITY": "critical",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_SYMLINKS_WARNING": "1",
}
_TAKES_NO_MORE = {errno.ENOSPC, errno.EFBIG, errno.EIO, getattr(errno, "EDQUOT", errno.ENOSPC)}


class LazyGroup(click.Group):
    """Imports a subcommand's module when it is called, so that `--help` answers at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, or None if there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"dmsr_cli.cli.{cmd_name}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[Any]]:
        """Commands and options that begin so, without importing the modules."""
        found = [(name, line) for name, line in COMMANDS.items() if name.startswith(incomplete)]
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [*(CompletionItem(name, help=line) for name, line in found), *options]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List names and lines without importing the modules."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dmsr")
def cli() -> None:
    """Blind image super-resolution.

    Finds out how blurred and how noisy a picture is, and restores it at x2, x3 or x4.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status (0 done, 1 failed, 2 wrong usage).

    Without `arguments` it is a process of its own, which a signal ends.
    """
    with released_at_the_end():
        if arguments is not None:
            return _run(list(arguments))
        _quiet_the_hub_library()
        _print_what_the_console_lacks()
        with end_at_once():
            return _run(sys.argv[1:])


def _print_what_the_console_lacks() -> None:
    """Escape, as on standard error, what the encoding of standard output has no sign for."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # it is None where it was closed
        sys.stdout.reconfigure(errors="backslashreplace")


def _run(arguments: list[str]) -> int:
    debug = "--debug" in arguments
    try:
        status = cli.main(arguments, prog_name="dmsr", standalone_mode=False)
        return status if isinstance(status, int) else 0
    except click.ClickException as error:
        if launched_rank() > 0:  # the first process meets the same, and says it
            return 0
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        _say("interrupted")
        return INTERRUPTED
    except DmsrError as error:
        if debug:
            raise
        _say(f"error: {error}")
        return error.exit_status
    except BrokenPipeError:  # the reader of our output has gone, and that is its right
        sys.stderr.close()
        return 0
    except Exception as error:
        if debug:
            raise
        if _is_of_standard_output(error):
            _say(f"error: cannot write standard output: {reason_of(error)}")
            return 1
        from dmsr_cli.cli.batch.report import describe

        _say(f"internal error: {describe(error)}; run again with --debug to see where")
        return 1


def _quiet_the_hub_library() -> None:
    """Its bars and warnings must not stand beside ours; what the environment says of them holds."""
    for name, value in _HUB_QUIET.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore", module=r"huggingface_hub\b")


def _is_of_standard_output(error: Exception) -> bool:
    """Whether standard output takes no more: what commands write to files, they name."""
    if not isinstance(error, OSError) or error.errno not in _TAKES_NO_MORE or error.filename:
        return False
    with contextlib.suppress(OSError, AttributeError):  # else Python tries once more as it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def _say(text: str) -> None:
    click.echo(f"dmsr: {text}", err=True)
