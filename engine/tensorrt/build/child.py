"""The process that builds: a request in a file, messages as lines of JSON on stdout, the engine in a file.

It ends by itself when its stdin closes: whoever asked for the engine is gone then.
"""

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any, TextIO

from sennet_engine.errors import SennetError
from sennet_engine.tensorrt.build.compile import compiled_engine
from sennet_engine.tensorrt.build.messages import BuildRequest, request_from_json
from sennet_engine.tensorrt.products import open_product

SECONDS_BETWEEN_MESSAGES = 0.1
EXIT_ABANDONED = 1


def main() -> None:
    """Answer the request in the file that the command line names."""
    # Messages have stdout to themselves; what the libraries print goes to stderr.
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    request = request_from_json(Path(sys.argv[1]).read_text(encoding="utf-8"))
    threading.Thread(target=_end_when_abandoned, daemon=True).start()
    try:
        answer = _built(request, channel)
    except SennetError as error:
        answer = {"kind": "refused", "error": type(error).__name__, "text": str(error)}
    except OSError as error:
        filename = None if error.filename is None else str(error.filename)
        answer = {"kind": "os", "errno": error.errno, "text": error.strerror, "filename": filename}
    _send(channel, answer)


def _built(request: BuildRequest, channel: TextIO) -> dict[str, Any]:
    progress = _Progress(channel)
    engine, built = compiled_engine(
        open_product(request.target), request.onnx.read_bytes(), name=request.onnx.name,
        capabilities=request.compute_capabilities, settings=request.settings, on_progress=progress,
    )  # fmt: skip
    request.engine.write_bytes(engine)
    return built.message


class _Progress:
    """Sends a phase's start and end, and of the steps between them a few a second: a build has thousands."""

    def __init__(self, channel: TextIO) -> None:
        self._channel = channel
        self._sent = 0.0

    def __call__(self, phase: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done in (0, total) or now - self._sent > SECONDS_BETWEEN_MESSAGES:
            self._sent = now
            _send(self._channel, {"kind": "progress", "phase": phase, "done": done, "total": total})


def _send(channel: TextIO, message: dict[str, Any]) -> None:
    channel.write(json.dumps(message) + "\n")
    channel.flush()


def _end_when_abandoned() -> None:
    # Read past sys.stdin, whose lock a daemon thread must not hold when the interpreter ends.
    while os.read(0, 1):
        pass
    os._exit(EXIT_ABANDONED)


if __name__ == "__main__":
    main()
