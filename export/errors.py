"""The error of an export that does not pass its gate."""

from sennet_engine.errors import SennetError


class GateError(SennetError):
    """An exported file that does not answer as its network does; nothing is written."""

    exit_code = 1
