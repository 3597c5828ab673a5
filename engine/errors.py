"""Errors that a person can cause and can mend. The command line prints them without a traceback and exits with 2.

SennetError
├── VolumeError        a volume that cannot be read, or not as a single-channel (Z, Y, X) volume
├── ModelError         a model bundle that is incomplete, changed, or does not fit the request
│   ├── OverflowedError  tiles to which a network has no finite answer in its precision
│   └── EngineError    an engine that cannot be built from its model, or does not answer as it does
├── DeviceError        a GPU that was asked for and cannot be used, or that failed
│   └── DeviceMemoryError  memory that a GPU does not have
├── ConfigError        a configuration file or an option with a value that cannot be used
├── OutputError        a place that cannot be written, or must not be overwritten
└── MissingExtraError  a package that an extra of this project would have installed
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy import uint8
    from numpy.typing import NDArray


class SennetError(Exception):
    """Base of all errors whose message says what was got, what was expected and what to do."""

    exit_code = 2


class VolumeError(SennetError):
    """A volume that cannot be read, or not as a single-channel (Z, Y, X) volume."""


class ModelError(SennetError):
    """A model bundle that is incomplete, changed, or does not fit the request."""


class OverflowedError(ModelError):
    """Tiles to which a network answered NaN or infinity before its sigmoid.

    Attributes:
        tiles: which of the batch, ascending.
        answers: to the whole batch, uint8 [B, 1, H, W]; those to the other tiles can be used.
    """

    def __init__(self, message: str, *, tiles: tuple[int, ...], answers: "NDArray[uint8]") -> None:
        super().__init__(message)
        self.tiles, self.answers = tiles, answers


class EngineError(ModelError):
    """An engine that cannot be built from its model, or does not answer as it does; the model may be good."""


class DeviceError(SennetError):
    """A GPU that was asked for and cannot be used, or that failed."""


class DeviceMemoryError(DeviceError):
    """Memory that a GPU does not have."""


class ConfigError(SennetError):
    """A configuration file or an option with a value that cannot be used."""


class OutputError(SennetError):
    """A place that cannot be written, or must not be overwritten."""


class MissingExtraError(SennetError):
    """A package that an extra of this project would have installed."""
