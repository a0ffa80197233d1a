"""What the leading process does between steps: looks at the losses, validates, reports, saves."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from dmsr_cli.errors import DmsrError, TrainingError
from dmsr_cli.files import display_name
from dmsr_cli.training.checkpoint import save_checkpoint
from dmsr_cli.training.losses import Losses
from dmsr_cli.training.record import Progress, Record
from dmsr_cli.training.settings import Recipe
from dmsr_cli.training.step import Stepper
from dmsr_cli.training.validation import Validator
from dmsr_cli.weight_file import save_weights

CHECKPOINT = "checkpoint.pt"
"""Name of the full state in the folder of a run."""
REPORT_EVERY = 20
"""Iterations between looks at the loss: each look waits for the device."""


class Keeper:
    """Keeps what a run leaves: checkpoint, weights, record."""

    def __init__(
        self,
        recipe: Recipe,
        output: Path,
        step: Stepper,
        validator: Validator | None,
        record: Record,
        *,
        pictures: str,
        iteration: int,
        psnr: float | None,
        on_progress: Callable[[Progress], None],
        on_message: Callable[[str], None],
    ) -> None:
        self.recipe = recipe
        self.step = step
        self.validator = validator
        self.record = record
        self.pictures = pictures
        self.psnr = psnr
        self.on_progress = on_progress
        self.on_message = on_message
        self.checkpoint = output / CHECKPOINT
        self.weights = output / f"dmsr-x{recipe.model.scale}.safetensors"
        self.first = self.reported = self.validated = iteration
        self.reported_at = time.monotonic()
        self.speed = 0.0
        self.next_validation = self.reported_at + 60 * recipe.training.validate_every

    def look(
        self, iteration: int, done: float, seconds: float, rate: float, losses: Losses
    ) -> bool:
        """After a step: report and validate when it is time to; returns whether to stop.

        Raises:
            TrainingError: a loss was not finite.
        """
        validate = time.monotonic() >= self.next_validation
        if iteration % REPORT_EVERY and not validate:
            return False
        stop = self._report(iteration, done, seconds, rate, losses, validate)
        if validate:
            self._save_if_possible(iteration, seconds)
            self.record.draw()
            self.reported_at = time.monotonic()
            self.next_validation = self.reported_at + 60 * self.recipe.training.validate_every
        return stop

    def finish(
        self, iteration: int, seconds: float, rate: float, losses: Losses | None, finished: bool
    ) -> None:
        """Validate a run that has ended, and save.

        Raises:
            TrainingError: losses or weights are not finite; what was saved before stays.
            DmsrError: the state cannot be written.
        """
        if finished and losses and self.validator and iteration > self.validated:
            self._report(iteration, 1.0, seconds, rate, losses, validate=True)
        self._save(iteration, seconds)
        self.record.draw()
        self.record.close()

    def _report(
        self,
        iteration: int,
        done: float,
        seconds: float,
        rate: float,
        losses: Losses,
        validate: bool,
    ) -> bool:
        self._check_losses()
        if iteration > self.reported:  # else this adds a validation to the last report
            patches = self.recipe.training.batch * self.step.world.size
            patches *= iteration - self.reported
            self.speed = patches / (time.monotonic() - self.reported_at)
        psnr = self._validate(iteration) if validate else None
        values = {name: value.item() for name, value in losses._asdict().items()}
        progress = Progress(iteration, done, seconds, rate, self.speed, values, psnr)
        self.record.write(progress)
        self.reported, self.reported_at = iteration, time.monotonic()
        try:
            self.on_progress(progress)
        except KeyboardInterrupt:
            return True
        return False

    def _validate(self, iteration: int) -> float | None:
        if not self.validator:
            return None
        validation = self.validator.validate(self.step.average)
        self.record.show(validation, iteration)
        self.psnr, self.validated = validation.psnr, iteration
        return self.psnr

    def _save_if_possible(self, iteration: int, seconds: float) -> None:
        """A full disk must not end a run that can still be saved later."""
        try:
            self._save(iteration, seconds)
        except TrainingError:
            raise
        except DmsrError as error:
            self.on_message(f"{error}; the run goes on, and tries again at the next validation")

    def _save(self, iteration: int, seconds: float) -> None:
        self._check_losses()
        # A finite loss can be followed by a step that breaks the weights.
        if not all(parameter.isfinite().all() for parameter in self.step.model.parameters()):
            raise self._not_finite("weights are", iteration)
        state = {**self.step.state(), "iteration": iteration, "seconds": seconds}
        state.update(psnr=self.psnr, pictures=self.pictures)
        save_checkpoint(self.checkpoint, self.recipe, state)
        info = {"iterations": iteration, "seconds": round(seconds), "psnr": self.psnr}
        save_weights(self.step.average, self.weights, info=info)

    def _check_losses(self) -> None:
        sound = self.step.steps_before_trouble()
        if sound is not None:
            raise self._not_finite("loss is", self.first + sound + 1)

    def _not_finite(self, what: str, iteration: int) -> TrainingError:
        text = f"the {what} not finite at iteration {iteration}: lower --learning-rate"
        if self.weights.exists():
            text = f"{text}; the last good state is in {display_name(self.weights.parent)}"
        return TrainingError(text)
