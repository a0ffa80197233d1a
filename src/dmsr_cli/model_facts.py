"""What is known of a bundled model beyond its weights: measured scores, training, limits.

`bundled/NAME.json` holds it; the page about models and the cards on the Hub are made from it.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dmsr_cli.config import from_mapping
from dmsr_cli.errors import WeightsError
from dmsr_cli.scores import Score, from_records

FOLDER = Path(__file__).parent / "bundled"


@dataclass(frozen=True)
class Cost:
    """What restoring one 256x256 picture takes, apart from loading."""

    seconds: float
    memory: float
    """MiB that the process grows by, at most."""
    machine: str
    """Where it was measured, in words."""


@dataclass(frozen=True)
class ModelFacts:
    """What was measured of a model, and how it was made. Texts are sentences."""

    training: str = ""
    """How it was trained."""
    data: str = ""
    """What it was trained on, with the licences."""
    compute: str = ""
    """What that took."""
    weaknesses: tuple[str, ...] = ()
    """What it is known to do badly."""
    cost: Cost | None = None
    scores: tuple[Score, ...] = ()
    """As `dmsr evaluate` measured them."""

    def find_score(self, data: str, width: float, level: float, lr: str) -> Score | None:
        """The score of one cell of the grid; None if it was not measured."""
        wanted = (data, width, level, lr)
        for score in self.scores:
            if (score.data, score.kernel_width, score.noise_level, score.lr) == wanted:
                return score
        return None


def read_facts(name: str) -> ModelFacts | None:
    """What is known of a bundled model; None of any other.

    Raises:
        WeightsError: the file is damaged.
        SettingsError: it has an unknown field, or one of a wrong type.
    """
    path = FOLDER / f"{name}.json"
    if name != Path(name).name or not path.is_file():
        return None
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
        cost, scores = values.pop("cost", None), values.pop("scores", [])
    except (OSError, ValueError, AttributeError):
        raise WeightsError(f"{path} is damaged; install dmsr-cli again") from None
    if cost is not None:
        values["cost"] = from_mapping(Cost, cost, f"{path}: cost")
    values["scores"] = from_records(scores, str(path))
    return from_mapping(ModelFacts, values, str(path))


def facts_text(facts: ModelFacts) -> str:
    """What `read_facts` reads: JSON, one score a line."""
    values = dataclasses.asdict(facts)
    scores = [json.dumps(score) for score in values.pop("scores")]
    head = json.dumps(values, indent=1, ensure_ascii=False).removesuffix("\n}")
    return f'{head},\n "scores": [\n  ' + ",\n  ".join(scores) + "\n ]\n}\n"
