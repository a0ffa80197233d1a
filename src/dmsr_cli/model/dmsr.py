"""DMSR: extractor and restorer together."""

from __future__ import annotations

from torch import Tensor, nn

from dmsr_cli.config import DMSRConfig
from dmsr_cli.model.extractor import Degradation, DegradationExtractor
from dmsr_cli.model.restorer import Restorer


class DMSR(nn.Module):
    """Degradation-guided meta-restoration network for blind super-resolution."""

    def __init__(self, config: DMSRConfig) -> None:
        super().__init__()
        self.config = config
        self.extractor = DegradationExtractor(config)
        self.restorer = Restorer(config)

    def forward(
        self, lr: Tensor, degradation: Degradation | None = None
    ) -> tuple[Tensor, Degradation]:
        """Restore (N, 3, h, w) at `config.scale`, with the degradation given or estimated.

        Returns:
            The picture (N, 3, h * scale, w * scale), float32, not clipped, and the degradation
            that guided it.
        """
        if degradation is None:
            degradation = self.extractor(lr)
        return self.restorer(lr, degradation.kernel, degradation.noise_map), degradation
