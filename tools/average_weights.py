"""Average weight files of one network, tensor by tensor.

    python tools/average_weights.py before.safetensors run/dmsr-x2.safetensors -o mean.safetensors

Of two files where one was trained from the other, the mean is often better than both where they
disagree: what the last stage gave stays, and what it took comes back (docs/experiments.md).
"""

from __future__ import annotations

from pathlib import Path

import click
import torch

from dmsr_cli.errors import DmsrError
from dmsr_cli.weight_file import load_weights, save_weights

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("files", nargs=-1, required=True, type=FILE)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path))
def main(files: tuple[Path, ...], output: Path) -> None:
    """Write the mean of FILES."""
    if output.exists():
        raise click.UsageError(f"{output} exists already: give another -o")
    try:
        models = [load_weights(file) for file in files]
        if any(model.config != models[0].config for model in models):
            raise click.UsageError("the files are of different networks")
        states = [model.state_dict() for model in models]
        mean = {key: torch.stack([state[key] for state in states]).mean(0) for key in states[0]}
        models[0].load_state_dict(mean)
        save_weights(models[0], output)
    except DmsrError as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
