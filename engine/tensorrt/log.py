"""What a builder says while it works: errors and warnings in their order.

No error recorder is set beside the logger: one that is set takes the errors away from the logger and adds nothing to
them, and one that is freed before its builder ends the process.
"""

from typing import Any


class BuildLog:
    """Collects the messages of a product's objects; `logger` is what they are given."""

    def __init__(self, trt: Any) -> None:
        self.errors: list[str] = []
        self.warnings: list[str] = []
        severity = trt.ILogger.Severity
        kept = {severity.INTERNAL_ERROR: self.errors, severity.ERROR: self.errors, severity.WARNING: self.warnings}

        class Logger(trt.ILogger):  # type: ignore[misc]
            def log(self, level: Any, message: str) -> None:
                if level in kept and message not in kept[level]:
                    kept[level].append(message)

        self.logger = Logger()
