"""The DMSR network: a degradation extractor that guides a restorer."""

from dmsr_cli.model.dmsr import DMSR
from dmsr_cli.model.extractor import Degradation, DegradationExtractor
from dmsr_cli.model.restorer import Restorer

__all__ = ["DMSR", "Degradation", "DegradationExtractor", "Restorer"]
