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
(ISO 8601, UTC), `overrides` (what was put in place of the estimate, an object that has only the
options given: `degradation`, `kernel`, `kernel_width`, `noise_level`, `denoise`),
`estimated_kernel_width` and `estimated_noise_level` (before that; `kernel_width` and
`noise_level` are those that were used), `consistency` (dB, how far the result explains the
input) and `damage_in_range` (whether its damage is of the kind that the model knows; null where
that cannot be told; both are explained [here](how-it-works.md#how-much-is-invented)). With
`--size`, `scale` and `model` are null where nothing was restored.
`--report` writes the same objects into a file, and at the end one with the key `summary`; a name
in `.html` gets one page instead, written at the end, of a batch that is interrupted, too. It is a
table of all inputs with their thumbnails, to sort by any column and to filter; each row opens to
the picture with its noise, the blur kernel and the noise's histogram. Photos are in it up to 60 MB,
thumbnails and numbers always. `--compare-page` makes a page of the same kind that shows each
picture before and after, with a divider to drag between; of results above 4 megapixels it has the
middle, and of a batch, the first 150 MB. Both are single files that load nothing from anywhere.

With `--compare-models` the object has `crop` (left, top, width and height of what is shown, in
pixels of the input) and `models`, a list of objects with `model`, `seconds` (without loading),
`kernel_width`, `noise_level` and `error`; `width` and `height` are those of the sheet. Where only
some of the models failed, `status` is `failed` and `output` the sheet with the others.

`dmsr estimate --json` prints one object for each input. [A JSON Schema](estimate.schema.json) says
what each field is. Those of a picture that failed are null, but for `input`, `status` (`failed`),
`error`, `scale`, `model` and the times; no number is ever NaN.

- `input`, `status` (`ok`, `failed`), `error`, `warnings`, `model`, `started`, `finished`, `output`
  (the file, or the beginning of the names of the files, that were saved; how to edit such a file is
  in [how it works](how-it-works.md#changing-the-verdict))
- `scale`: of the model. `width`, `height`, `input_pixels`: of the input
- `kernel_width`: in pixels of the enlarged picture, as are all sizes of the kernel
- `noise_level`, and for red, green and blue `noise_levels`: standard deviations, 0 to 255
- `anisotropy`: the kernel's long standard deviation over the short one, 1 or more.
  `orientation`: of the long one, in degrees counter-clockwise from horizontal; null if it is round
- `kernel_confidence`: how probable it is, 0 to 1, that `kernel_width` is at most 0.3 off.
  `noise_confidence`: that `noise_level` is at most 10 % or 1 off. Measured on synthetic damage
- `consistency` and `damage_in_range`: with `--check`, as of `upscale`; else null
- `sentence`: blur and noise in plain words. `reservations`: why not to trust it

`--where` compares (`<` `<=` `>` `>=` `==` `!=`) `noise_level`, `kernel_width`, `anisotropy`,
`orientation`, `noise_confidence`, `kernel_confidence`, `consistency`, `width`, `height`,
`megapixels` and `scale` with numbers; `and` and `or` join comparisons. What is null fulfils none.

    dmsr estimate photos/ -r --where "noise_level > 20" -0 | xargs -0 -r mv -t noisy/

`dmsr weights list --json` prints one object for each model: `name`, `family`, `scale`, `size`
(bytes), `parameters`, `place` (`bundled`, `cached`, or null if it is not here), `path`, `fault`
(what is wrong with the file, else null), `psnr` (dB by test), `license`, `sha256`, `hub` (its
address) and `revision`. `weights pull --json` prints `name`, `status` (`fetched`, `there`,
`failed`), `path`, `size` and `error` for each file; `weights verify --json` prints `name`, `status`
(`intact`, `bad`, `missing`), `place`, `path`, `fault` and, of a bad file in the cache, `moved_to`.
"""


def text() -> str:
    """The whole page."""
    parts = [HEAD, _section([])]
    for name in COMMANDS:
        parts.append(_section([name]))
        parts += [_section([name, inner]) for inner in _inner_commands(name)]
    return "\n".join(parts)


def _inner_commands(name: str) -> list[str]:
    """The commands of a command that is a group, in its order."""
    context = click.Context(cli)
    command = cli.get_command(context, name)
    return command.list_commands(context) if isinstance(command, click.Group) else []


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
