"""`dmsr weights push`: models to the Hub."""

from __future__ import annotations

from pathlib import Path

import click

from dmsr_cli.cli.completing import complete_models
from dmsr_cli.cli.options import debug_option
from dmsr_cli.cli.weights.choosing import size_text


@click.command(short_help="Publish models on the Hub.")
@click.argument(
    "models", nargs=-1, required=True, shell_complete=complete_models, metavar="FILE|NAME..."
)
@click.option("--repo", required=True, metavar="OWNER/NAME", help="Made if it is missing.")
@click.option("--revision", default="main", show_default=True, help="Branch; made if missing.")
@click.option("--private", is_flag=True, help="If the repository is made, only you can see it.")
@click.option(
    "--name",
    "names",
    multiple=True,
    help="What the model shall be called; once for each.  [default: the name of its file]",
)
@click.option(
    "--scores",
    "score_files",
    multiple=True,
    metavar="FILE",
    help="From `dmsr evaluate -o FILE.json`, for the card of the model of that scale; repeatable.",
)
@click.option("--license", help="Licence of the weights, as MIT or CC-BY-4.0.")
@click.option(
    "--overwrite",
    is_flag=True,
    help="Replace files that are there with another content, and a README that is not from here.",
)
@click.option(
    "--dry-run", is_flag=True, help="Check the files and say what would be done; no request."
)
@debug_option
def push(
    models: tuple[str, ...],
    repo: str,
    revision: str,
    private: bool,
    names: tuple[str, ...],
    score_files: tuple[str, ...],
    license: str | None,
    overwrite: bool,
    dry_run: bool,
    debug: bool,
) -> None:
    """Put models into a repository of the Hub, in one commit, with a model card of all in it.

    A model is called NAME-x4, after its scale, and its file NAME-x4.safetensors. Others then use
    it with --model hf://OWNER/NAME. What goes into weights.toml is printed on standard output.
    HF_TOKEN must hold a token that may write, or `hf auth login` have stored one.
    """
    from dmsr_cli import publishing
    from dmsr_cli.scores import read_scores
    from dmsr_cli.weights_table import entry_text

    if names and len(names) != len(models):
        raise click.UsageError(f"{len(models)} models and {len(names)} --name: give one for each")
    scores = [score for file in score_files for score in read_scores(Path(file))]
    uploads = [
        publishing.prepare(
            model, repo, name=name, license=license, revision=revision, scores=scores
        )
        for model, name in zip(models, names or [None] * len(models), strict=True)
    ]
    publishing.check_names(uploads)
    if scores and len({upload.entry.scale for upload in uploads}) < len(uploads):
        raise click.UsageError("--scores goes with one model of a scale: push them one by one")
    if dry_run:
        for upload in uploads:
            size = size_text(upload.entry.size)
            _say(f"would push {upload.path} ({size}) to {repo} as {upload.entry.file}")
        entries = [upload.entry for upload in uploads]
    else:
        pushed = publishing.push(
            uploads, repo, revision=revision, private=private or None, overwrite=overwrite
        )
        entries = pushed.entries
        _say(f"pushed: {pushed.url}")
        if pushed.card_was_kept:
            _say("the README there is not from here and was kept; --overwrite replaces it")
    for entry in entries:
        click.echo(entry_text(entry).strip() + "\n")


def _say(text: str) -> None:
    click.echo(text, err=True)
