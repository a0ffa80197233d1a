"""The errors that users meet.

Every message is one line that names what is wrong and what to do next. The command line turns
a `DmsrError` into that line and into `exit_status`; anything else that escapes is a bug.
"""


class DmsrError(Exception):
    """Base of all expected errors. `exit_status` is what the command line exits with."""

    exit_status = 1


class ImageError(DmsrError):
    """A picture cannot be read, written or used."""


class ExistsError(ImageError):
    """A file is there that must not be replaced."""


class WeightsError(DmsrError):
    """A weight file is missing, damaged, of another network, or cannot be fetched."""


class DataError(DmsrError):
    """A folder of training or evaluation pictures cannot be used."""


class DeviceError(DmsrError):
    """The compute device is not there, or its memory does not suffice."""


class MissingDeviceError(DeviceError):
    """The compute device is not there, or lacks what was asked for by name."""

    exit_status = 2


class CheckpointError(DmsrError):
    """A training run cannot be continued from the checkpoint given."""


class SettingsError(DmsrError):
    """A setting or an argument is unknown, impossible, or contradicts another one."""

    exit_status = 2


class TrainingError(DmsrError):
    """Training cannot go on."""


class SharingError(DmsrError):
    """The processes of a shared batch lost each other."""
