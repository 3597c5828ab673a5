"""A check as JSON, for programs."""

import json
from dataclasses import asdict
from pathlib import Path

from sennet_bench.check.files import Check
from sennet_bench.check.view import verdict_of_check
from sennet_engine.errors import OutputError


def write_check(path: Path, check: Check) -> None:
    """Write all rows with their samples, the warnings and the verdict. Raises OutputError where that cannot be."""
    facts = {"verdict": verdict_of_check(check), "exit_code": check.exit_code, **asdict(check)}
    try:
        path.write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another place") from error
