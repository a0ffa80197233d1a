"""What the options of `dmsr upscale` put in the place of an estimate."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from dmsr_cli.errors import SettingsError
from dmsr_cli.files import display_name

if TYPE_CHECKING:
    from pathlib import Path

    from dmsr_cli.cli.batch.settings import UpscaleOptions
    from dmsr_cli.degradation_file import DegradationSettings
    from dmsr_cli.pipeline import Degradation, Pixels


class Estimated(NamedTuple):
    """What was found in a picture, before anything was put in its place."""

    kernel_width: float
    noise_level: float


@dataclass(frozen=True, eq=False)
class Steering:
    """The options that steer, with what is in the files that they name."""

    settings: DegradationSettings | None = None
    """Of --degradation."""
    kernel: Pixels | None = None
    """Of --kernel."""
    kernel_width: float | None = None
    noise_level: float | None = None
    denoise: float | None = None
    overrides: dict[str, Any] = field(default_factory=dict)
    """The options that were given, as the record has them: files by their names."""

    def steered(self, found: Degradation) -> Degradation:
        """An estimate with what the options put in its place: the file's first."""
        if self.settings is not None:
            found = self.settings.apply(found)
        if self.kernel is not None:
            found = dataclasses.replace(found, kernel=self.kernel)
        if self.kernel_width is not None:
            found = found.with_kernel_width(self.kernel_width)
        if self.noise_level is not None:
            found = found.with_noise_level(self.noise_level)
        if self.denoise is not None:
            found = found.with_denoise(self.denoise)
        return found

    def check_fits(self, model: str, scale: int, kernel_size: int) -> None:
        """Raise SettingsError if the files are not for the model of the first pass."""
        if self.settings is not None and self.settings.scale not in (None, scale):
            raise SettingsError(
                f"{display_name(self.overrides['degradation'])} is for x{self.settings.scale}, and "
                f"{model} is x{scale}: use -s {self.settings.scale}, or estimate with -s {scale}"
            )
        from_file = None if self.settings is None else self.settings.kernel
        for option, kernel in (("degradation", from_file), ("kernel", self.kernel)):
            if kernel is not None and kernel.shape[0] != kernel_size:
                side = kernel.shape[0]
                raise SettingsError(
                    f"the kernel in {display_name(self.overrides[option])} is {side}x{side}, and "
                    f"{model} needs {kernel_size}x{kernel_size}: use a kernel of that size"
                )

    @property
    def digests(self) -> dict[str, str]:
        """What the files say, by the names of their options, for comparison with other results."""
        found = {}
        if self.settings is not None:
            found["degradation"] = self.settings.sha256
        if self.kernel is not None:
            found["kernel"] = hashlib.sha256(self.kernel.tobytes()).hexdigest()
        return found


def read_steering(options: UpscaleOptions) -> Steering:
    """Read the files that the options name.

    Raises:
        SettingsError: one cannot be read or used.
    """
    if options.degradation is None and options.kernel is None:
        settings = kernel = None
    else:
        from dmsr_cli.degradation_file import read_degradation, read_kernel

        settings = None if options.degradation is None else read_degradation(options.degradation)
        kernel = None if options.kernel is None else read_kernel(options.kernel)
    numbers = {name: getattr(options, name) for name in ("kernel_width", "noise_level", "denoise")}
    files = {"degradation": options.degradation, "kernel": options.kernel}
    given: dict[str, Path | float | None] = {**files, **numbers}
    overrides = {
        name: value if isinstance(value, (int, float)) else str(value)
        for name, value in given.items()
        if value is not None
    }
    return Steering(settings, kernel, **numbers, overrides=overrides)
