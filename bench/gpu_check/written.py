"""The files of a check; a later check in the same folder replaces them."""

from pathlib import Path

from sennet_bench.gpu_check.check import GpuCheck
from sennet_engine.errors import OutputError

FACTS, PAGE = "gpu-check.json", "gpu-check.html"


def checked_folder(out: Path) -> None:
    """Make the folder `out`. Raises OutputError where that cannot be."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror}); choose another --out") from error


def write_check(check: GpuCheck, page: str, out: Path) -> None:
    """Write both files into the folder `out`. Raises OutputError where that cannot be."""
    try:
        for name, text in ((FACTS, check.as_json()), (PAGE, page)):
            (out / name).write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror}); choose another --out") from error
