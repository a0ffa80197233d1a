"""Write docs/cli.md from the commands' own help, so that it cannot drift (a test compares)."""

from __future__ import annotations

from pathlib import Path

import click
from click.testing import CliRunner

from dmsr_cli.cli.main import COMMANDS, cli

TARGET = Path(__file__).parent.parent / "docs" / "cli.md"
WIDTH = 90
HEAD = """\
# Command line

This page is made from the commands' own help by `tools/write_cli_docs.py`.

Results and `--json` go to standard output, messages and progress to standard error. Exit
status: 0 all done or skipped, 1 at least one input failed, 2 wrong usage, 130 interrupted by
Ctrl-C, 143 by SIGTERM, 129 by SIGHUP. One bad file does not stop a batch; what else holds for
batches is in [reliability](reliability.md). `dmsr` and `python -m dmsr_cli` are the same.

`dmsr upscale --json` prints one object for each input: `input`, `output`, `status` (`ok`,
`skipped`, `failed`; with `--dry-run` `planned` in place of `ok`), `error`, `scale` (3.5 for `-s
3.5`; with `--size`, the larger ratio of result to picture), `width`, `height` (of the result),
`model` (two passes: two names, joined by +), `kernel_width` (standard deviation in pixels of
what the first model makes, before it is resized), `noise_level` (0 to 255), `seconds`, `frames`
(of animations, pages and clips; else null), `warnings` (what of the input could not be used or
kept), `reason` (why it was skipped), `input_pixels` (of all frames), `started` and `finished`
(ISO 8601, UTC), `consistency` (dB, how far the result explains the input) and `damage_in_range`
(whether its damage is of the kind that the model knows; null where that cannot be told; both
are explained [here](how-it-works.md#how-much-is-invented)). With `--size`, `scale` and `model`
are null where nothing was restored. `--report` writes the same objects
into a file, and at the end one with the key `summary`.

`dmsr estimate --json` prints `input`, `status`, `error`, `scale`, `width`, `height` (of the
input), `model`, `kernel_width`, `noise_level`, `warnings`, `input_pixels`, `started`,
`finished`, and `output`, the beginning of the names of what was saved; with `--check` also
`consistency` and `damage_in_range`, which are null without.
"""


def text() -> str:
    """The whole page."""
    parts = [HEAD, _section([])]
    parts += [_section([name]) for name in COMMANDS]
    return "\n".join(parts)


def _section(command: list[str]) -> str:
    help_text = CliRunner().invoke(
        cli, [*command, "--help"], prog_name="dmsr", terminal_width=WIDTH, max_content_width=WIDTH
    )
    if help_text.exit_code != 0:
        raise click.ClickException(help_text.output)
    name = " ".join(["dmsr", *command])
    return f"## {name}\n\n```text\n{help_text.output.rstrip()}\n```\n"


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
