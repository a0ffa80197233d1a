"""Write docs/models.md from what is known of the bundled models (a test compares)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dmsr_cli.evaluation import KERNEL_WIDTHS, NOISE_LEVELS
from dmsr_cli.model_facts import ModelFacts, read_facts
from dmsr_cli.paper_scores import DATA_SETS, TABLE_1
from dmsr_cli.weights import ModelEntry, read_weights_table

TARGET = Path(__file__).parent.parent / "docs" / "models.md"
METHODS = ("IKC-vn", "SFM-vn", "DMSR")
HEAD = """\
# Models

This page is made by `tools/write_models_page.py` from [weights.toml](../weights.toml) and from what
`dmsr evaluate`, `benchmarks/model_cost.py` and the training left in `src/dmsr_cli/bundled/`.

`dmsr upscale` takes the best family that the device runs in reasonable time, of the scale that you
ask for, and says which: the full one (`dmsr`, the network of the paper) on a GPU, `dmsr-lite` on a
CPU. The full one has not been trained yet; until it is there at every scale, any device gets
`dmsr-lite`. `--model` takes another, by name, by file, or from the Hub.
"""
SCORES = """\
## Scores

PSNR in dB on luma, border of `scale` pixels cropped; [width, noise] is the width of the blur kernel
in HR pixels and the noise level (0 to 255). **float** is the paper's protocol, whose LR pictures
are neither rounded nor clipped; **8-bit** is what files hold. IKC-vn, SFM-vn and DMSR are the
paper's own numbers (Table 1); its DMSR has eight times as many parameters and was trained on ten
times as many pictures (DF2K). In the row [0.2, 0] they are those of networks trained for pictures
without noise alone (IKC, SFM, DMSR-nf); ours are the same in all rows. Bold: at least as good as
the paper's DMSR.
"""


def text() -> str:
    """The whole page."""
    models = [(entry, _facts(entry)) for entry in read_weights_table().values()]
    parts = [HEAD, *_overview(models), "", SCORES]
    for entry, facts in models:
        command = f"dmsr evaluate --data Set5 --model {entry.name} -s {entry.scale} -o Set5.json"
        parts += [f"### {entry.name}", "", f"    {command}", "", *_grid(entry, facts), ""]
    parts += ["## How they were made", ""]
    for part in ("training", "data", "compute"):
        parts += [*_said_of([(entry.name, getattr(facts, part)) for entry, facts in models]), ""]
    parts += ["## Known weaknesses", ""]
    weaknesses = dict.fromkeys(line for _, facts in models for line in facts.weaknesses)
    parts += [f"- {line}" for line in weaknesses]
    return "\n".join(parts) + "\n"


def _said_of(pairs: list[tuple[str, str]]) -> list[str]:
    """Names and what holds for each; what holds for all is said once."""
    if len({text for _, text in pairs}) == 1:
        return [pairs[0][1]]
    return [f"- {name}: {text}" for name, text in pairs]


def _facts(entry: ModelEntry) -> ModelFacts:
    facts = read_facts(entry.name)
    if facts is None:
        raise SystemExit(f"nothing is known of {entry.name}: bundle it by tools/bundle_weights.py")
    return facts


def _overview(models: list[tuple[ModelEntry, ModelFacts]]) -> Iterator[str]:
    yield "| model | scale | parameters | file | licence | 256x256 picture |"
    yield "|---|---|---|---|---|---|"
    for entry, facts in models:
        cost = facts.cost
        spent = "" if cost is None else f"{cost.seconds:.2f} s, {cost.memory:.0f} MiB"
        yield (
            f"| {entry.name} | x{entry.scale} | {entry.parameters:,} | {entry.size / 1e6:.2f} MB "
            f"| {entry.license} | {spent} |"
        )
    machines = {facts.cost.machine for _, facts in models if facts.cost is not None}
    yield ""
    yield (
        "The last column is the time, and what the process grows by at most, on "
        f"{' and '.join(sorted(machines))}: `python benchmarks/model_cost.py MACHINE`."
    )


def _grid(entry: ModelEntry, facts: ModelFacts) -> Iterator[str]:
    yield "| set | [width, noise] | bicubic | float | 8-bit | " + " | ".join(METHODS) + " |"
    yield "|---" * (5 + len(METHODS)) + "|"
    for data in DATA_SETS:
        for level in NOISE_LEVELS:
            for width in KERNEL_WIDTHS:
                yield _row(entry.scale, facts, data, width, level)


def _row(scale: int, facts: ModelFacts, data: str, width: float, level: float) -> str:
    score, rounded = (facts.find_score(data, width, level, lr) for lr in ("float", "8-bit"))
    printed = [TABLE_1[method][data][scale].get((width, level)) for method in METHODS]
    ours = "" if score is None else f"{score.psnr:.2f}"
    paper = printed[-1]
    if score is not None and paper is not None and score.psnr >= paper[0]:
        ours = f"**{ours}**"
    cells = [
        *(data, f"[{width:g}, {level:g}]"),
        "" if score is None else f"{score.bicubic_psnr:.2f}",
        *(ours, "" if rounded is None else f"{rounded.psnr:.2f}"),
        *("" if pair is None else f"{pair[0]:.2f}" for pair in printed),
    ]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
