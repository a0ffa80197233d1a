"""The card of a Hub repository: the README.md that says what its models are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dmsr_cli.config import DMSRConfig
from dmsr_cli.model_facts import ModelFacts
from dmsr_cli.scores import Score

PAPER = "Degradation-Guided Meta-Restoration Network for Blind Super-Resolution (Yang et al.)"


@dataclass(frozen=True)
class CardModel:
    """A model of the repository, and what is known of it."""

    name: str
    file: str
    config: DMSRConfig
    parameters: int
    sha256: str
    license: str | None = None
    facts: ModelFacts | None = None


def card_text(models: Sequence[CardModel], repo: str) -> str:
    """README.md for `repo`, Markdown with the YAML head that the Hub reads.

    Args:
        models: all models that the repository holds, at least one.
        repo: "owner/name".
    """
    parts = [_head(models), _introduction(models, repo), _models(models)]
    parts += [_of(model, model.facts) for model in models if model.facts is not None]
    return "\n".join(parts)


def _head(models: Sequence[CardModel]) -> str:
    licenses = {model.license for model in models}
    lines = ["---", "library_name: dmsr-cli", "pipeline_tag: image-to-image"]
    (license,) = licenses if len(licenses) == 1 else (None,)
    if license:
        lines.append(f"license: {license.lower()}")
    tags = ["super-resolution", "blind-super-resolution", "denoising", "deblurring", "dmsr"]
    return "\n".join([*lines, "tags:", *(f"- {tag}" for tag in tags), "---", ""])


def _introduction(models: Sequence[CardModel], repo: str) -> str:
    scales = ", ".join(f"x{scale}" for scale in sorted({model.config.scale for model in models}))
    first = models[0]
    return f"""# {repo.partition("/")[2]}

Blind image super-resolution at {scales} for dmsr: the network finds the blur kernel and
the noise of a picture and restores it. It follows {PAPER}.

    pip install dmsr-cli
    dmsr upscale photo.png -s {first.config.scale} --model hf://{repo}/{first.file}

```python
from dmsr_cli import DMSR

network = DMSR.from_pretrained("{repo}", filename="{first.file}")
```
"""


def _models(models: Sequence[CardModel]) -> str:
    lines = ["| model | scale | parameters | SHA-256 |", "|---|---|---|---|"]
    for model in models:
        count = f"{model.parameters:,}"
        lines.append(f"| {model.file} | x{model.config.scale} | {count} | `{model.sha256}` |")
    return "\n".join([*lines, ""])


def _of(model: CardModel, facts: ModelFacts) -> str:
    parts = [f"## {model.name}", ""]
    for title, text in (
        *(("Training", facts.training), ("Data", facts.data), ("Compute", facts.compute)),
        ("Known weaknesses", " ".join(facts.weaknesses)),
    ):
        if text:
            parts += [f"**{title}.** {text}", ""]
    if facts.scores:
        parts += [*_scores(facts.scores), ""]
    return "\n".join(parts)


def _scores(scores: Sequence[Score]) -> Iterator[str]:
    yield "PSNR in dB / SSIM, on luma; LR made from each HR picture by blur, bicubic and noise:"
    yield ""
    yield "| set | LR | kernel width | noise level | bicubic | model |"
    yield "|---|---|---|---|---|---|"
    for score in scores:
        yield (
            f"| {score.data} | {score.lr} | {score.kernel_width:g} | {score.noise_level:g} "
            f"| {score.bicubic_psnr:.2f} / {score.bicubic_ssim:.4f} "
            f"| {score.psnr:.2f} / {score.ssim:.4f} |"
        )
