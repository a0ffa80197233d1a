"""Numbers and pictures of a run for TensorBoard, which is an extra of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dmsr_cli.errors import DmsrError
from dmsr_cli.files import display_name, reason_of

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FLUSH_SECONDS = 20
"""How much a killed run may lose, and how old the newest point may be that one sees."""


class Board:
    """A folder that TensorBoard shows while the run goes on; `open` makes one."""

    def __init__(self, writer: SummaryWriter, folder: Path) -> None:
        self._writer = writer
        self._folder = folder

    @classmethod
    def open(cls, folder: Path, resumed_at: int | None = None) -> Board:
        """Start an event file in the folder, which is made if it is not there.

        Args:
            folder: where event files lie; those of earlier parts of the run stay.
            resumed_at: the iteration a run goes on from; what earlier parts wrote of later ones
                is hidden, because the run goes through them again.

        Raises:
            DmsrError: TensorBoard is not installed, or the folder cannot be written.
        """
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise DmsrError(
                f"cannot write TensorBoard files to {display_name(folder)} "
                f'({reason_of(error)}): pip install "dmsr-cli[tensorboard]"'
            ) from None
        with _write_errors(folder):
            hidden_from = None if resumed_at is None else resumed_at + 1
            writer = SummaryWriter(str(folder), purge_step=hidden_from, flush_secs=FLUSH_SECONDS)
        return cls(writer, folder)

    def scalars(self, values: Mapping[str, float], iteration: int) -> None:
        """One point for each named curve; a slash in the name groups curves.

        Raises:
            DmsrError: the event file cannot be written.
        """
        with _write_errors(self._folder):
            for name, value in values.items():
                self._writer.add_scalar(name, value, iteration)

    def picture(self, name: str, pixels: NDArray[np.float32], iteration: int) -> None:
        """A picture (H, W, 3), float32 in [0, 1]; values beyond are clipped.

        Raises:
            DmsrError: the event file cannot be written.
        """
        # Rounded here: TensorBoard would cut the fractions off.
        levels = np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
        with _write_errors(self._folder):
            self._writer.add_image(name, levels, iteration, dataformats="HWC")

    def close(self) -> None:
        """Write what is still waiting; a second call does nothing.

        Raises:
            DmsrError: the event file cannot be written.
        """
        with _write_errors(self._folder):
            self._writer.close()


@contextlib.contextmanager
def _write_errors(folder: Path) -> Iterator[None]:
    """Name the folder in what the system refuses, here or in TensorBoard's own thread."""
    try:
        yield
    except OSError as error:
        raise DmsrError(
            f"cannot write TensorBoard files to {display_name(folder)}: {reason_of(error)}"
        ) from error
