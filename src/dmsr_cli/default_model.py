"""Which model is used where none is named."""

from __future__ import annotations

from dmsr_cli.config import SCALES
from dmsr_cli.weights_table import read_weights_table

LITE, FULL = "dmsr-lite", "dmsr"


def default_family(device: str = "auto") -> str:
    """The best family that a device runs in reasonable time: the full one on a GPU, else lite.

    The full family counts once the table of models has it at every scale, so that `-s` never
    changes what kind of model is used.

    Args:
        device: auto, cpu, cuda, cuda:N or mps.

    Raises:
        SettingsError: the table of models or the device cannot be understood.
        DeviceError: the device is not there.
        WeightsError: this installation has no table of models.
    """
    scales = {entry.scale for entry in read_weights_table().values() if entry.family == FULL}
    if not scales.issuperset(SCALES):
        return LITE  # said without torch, which takes a second to load
    from dmsr_cli.device import choose_device

    return LITE if choose_device(device).type == "cpu" else FULL
