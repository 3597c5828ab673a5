"""Errors that a person can cause and can mend. The command line prints them without a traceback and exits with 2.

SennetError
├── VolumeError        a volume that cannot be read, or not as a single-channel (Z, Y, X) volume
├── ModelError         a model bundle that is incomplete, changed, or does not fit the request
├── ConfigError        a configuration file or an option with a value that cannot be used
├── OutputError        a place that cannot be written, or must not be overwritten
└── MissingExtraError  a package that an extra of this project would have installed
"""


class SennetError(Exception):
    """Base of all errors whose message says what was got, what was expected and what to do."""

    exit_code = 2


class VolumeError(SennetError):
    """A volume that cannot be read, or not as a single-channel (Z, Y, X) volume."""


class ModelError(SennetError):
    """A model bundle that is incomplete, changed, or does not fit the request."""


class ConfigError(SennetError):
    """A configuration file or an option with a value that cannot be used."""


class OutputError(SennetError):
    """A place that cannot be written, or must not be overwritten."""


class MissingExtraError(SennetError):
    """A package that an extra of this project would have installed."""
