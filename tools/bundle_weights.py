"""Put a weight file into the package and into weights.toml, with its measured PSNR.

    python tools/bundle_weights.py run/dmsr-x4.safetensors dmsr-lite-x4 scores/*.json

The score files come from `dmsr evaluate -o FILE.json`. Set5 with float LR goes into the table,
all of them into the model's facts (bundled/NAME.json), whose texts are edited by hand. Write the
page of models anew afterwards: `python tools/write_models_page.py`.
"""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import click

from dmsr_cli.model_facts import ModelFacts, facts_text, read_facts
from dmsr_cli.scores import psnr_by_test, read_scores
from dmsr_cli.weight_file import file_sha256, load_weights, read_config
from dmsr_cli.weights import BUNDLED_FOLDER, ModelEntry, read_weights_table
from dmsr_cli.weights_table import entry_text

TABLE = Path(__file__).parent.parent / "weights.toml"
HEADER = """\
# The models that `dmsr --model NAME` knows. Each file is looked for in the package (bundled),
# then on the Hub at `repo`, `file`, `revision`; only a file with this SHA-256 is used.
# The Hub entries say where the bundled files belong once they are uploaded.
# psnr: dB on luma, float LR, [kernel width, noise level]; made by tools/bundle_weights.py.
"""
LICENSE = "MIT"


@click.command()
@click.argument("weights", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("name")
@click.argument("scores", nargs=-1, type=click.Path(exists=True, path_type=Path))
def main(weights: Path, name: str, scores: tuple[Path, ...]) -> None:
    """Bundle WEIGHTS as NAME, with the PSNR of SCORES."""
    family = name.rsplit("-x", 1)[0]
    file = f"{name}.safetensors"
    BUNDLED_FOLDER.mkdir(exist_ok=True)
    shutil.copyfile(weights, BUNDLED_FOLDER / file)
    measured = [
        dataclasses.replace(score, model=name) for path in scores for score in read_scores(path)
    ]
    psnr = psnr_by_test([score for score in measured if score.data == "Set5"])
    facts = dataclasses.replace(read_facts(name) or ModelFacts(), scores=tuple(measured))
    (BUNDLED_FOLDER / f"{name}.json").write_text(facts_text(facts), encoding="utf-8")
    config = read_config(weights)
    entry = ModelEntry(
        name=name,
        repo=f"dmsr/{family}",
        file=file,
        revision="main",
        sha256=file_sha256(weights),
        size=weights.stat().st_size,
        scale=config.scale,
        parameters=sum(p.numel() for p in load_weights(weights).parameters()),
        license=LICENSE,
        config=config,
        psnr=psnr,
    )
    table = {**(read_weights_table(TABLE) if TABLE.exists() else {}), name: entry}
    entries = "".join(entry_text(table[key]) for key in sorted(table))
    TABLE.write_text(HEADER + entries, encoding="utf-8")


if __name__ == "__main__":
    main()
