"""Run a command: what a person can mend ends in one clear line on stderr, never in a traceback."""

import errno
import io
import logging
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer

from sennet_engine.errors import SennetError

EXIT_ERROR = 2
EXIT_TERMINATED = 143  # as a shell reports a program that ended by SIGTERM
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 1  # as typer does for what it prints itself

ADVICE_BY_ERRNO = {
    errno.ENOSPC: "free some space or write to another disk",
    errno.EDQUOT: "free some of your quota or write to another disk",
    errno.EACCES: "check the permissions or choose another place",
    errno.EPERM: "check the permissions or choose another place",
    errno.EROFS: "choose another place",
}

EXTRA_BY_MODULE = {
    **dict.fromkeys(("torch", "torchvision", "segmentation_models_pytorch", "timm", "albumentations"), "train"),
    **dict.fromkeys(("safetensors", "matplotlib", "cv2", "accelerate", "filelock", "jinja2"), "train"),
    **dict.fromkeys(("onnx", "onnxscript"), "export"),
    **dict.fromkeys(("onnxruntime", "openvino"), "cpu"),
}


def run(app: typer.Typer) -> NoReturn:
    """Run `app` on the arguments of the process and exit.

    Exit codes: 0; 2 for a missing extra, a full or forbidden disk, and wrong usage; that of a SennetError, which is 2
    as a rule; 130 if interrupted; 143 if terminated; 1, without a word, if whoever read the output went away. Any other
    exception is a mistake in this program: it keeps its plain traceback and ends in 1. Log records from WARNING on and
    Python warnings go to stderr, each message once.
    """
    # Job schedulers end a program with SIGTERM; leaving by an exception lets every `finally` tidy up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_TERMINATED))
    # A file's name may hold bytes that no encoding can print.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app.pretty_exceptions_enable = False
    with _messages_on_stderr():
        try:
            _run_and_flush(app)
        except SennetError as error:
            _stop(str(error), error.exit_code)
        except ModuleNotFoundError as error:
            module = (error.name or "").split(".")[0]
            if module not in EXTRA_BY_MODULE:
                raise
            _stop(f"{module} is not installed; run: pip install 'sennet[{EXTRA_BY_MODULE[module]}]'")
        except MemoryError as error:
            _stop(
                f"not enough memory: {error or 'it is full'}; take less at a time: --batch, --slab, --tile or --memory"
            )
        except BrokenPipeError:
            # What is left in the buffer has no reader; the interpreter must not try to write it when it ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(EXIT_BROKEN_PIPE)
        except OSError as error:
            if error.errno not in ADVICE_BY_ERRNO:
                raise
            where = f"{error.filename}: " if error.filename else ""
            _stop(f"{where}{error.strerror}; {ADVICE_BY_ERRNO[error.errno]}")


def _run_and_flush(app: typer.Typer) -> NoReturn:
    try:
        app()
    except SystemExit as leaving:
        # Flushed here and not by the interpreter at its end, where an error could only be printed.
        sys.stdout.flush()
        if leaving.code == EXIT_INTERRUPTED:
            print("interrupted", file=sys.stderr)  # noqa: T201 - this is the command line
        raise
    raise AssertionError("typer leaves by SystemExit")


def _stop(message: str, exit_code: int = EXIT_ERROR) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)  # noqa: T201 - this is the command line
    sys.exit(exit_code)


@contextmanager
def _messages_on_stderr() -> Iterator[None]:
    root, handler, show_warning = logging.getLogger(), _OnceOnStderr(), warnings.showwarning
    root.addHandler(handler)
    warnings.showwarning = lambda message, *_args, **_kwargs: logging.getLogger("py.warnings").warning(str(message))
    try:
        yield
    finally:
        root.removeHandler(handler)
        warnings.showwarning = show_warning


class _OnceOnStderr(logging.Handler):
    """Prints `warning: MESSAGE`, each once; to what stderr is at that moment, since a progress bar redirects it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._seen: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == "tifffile":
            return  # a damaged file is reported once, by our own error, and not with every step of the search
        line = f"{record.levelname.lower()}: {record.getMessage()}"
        if line not in self._seen:
            self._seen.add(line)
            print(line, file=sys.stderr)  # noqa: T201 - this is the command line
