"""Where onnxruntime keeps the engines that its TensorRT provider builds: where nobody else could put one."""

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sennet_engine.errors import ConfigError

FOLDER = "onnxruntime-tensorrt"
WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def engine_folder(parent: Path, facts: Mapping[str, Any]) -> Path:
    """The folder below `parent` for engines of these `facts`, a table of JSON; made where it does not exist.

    onnxruntime loads whatever engine it finds there, and an engine is code.

    Raises:
        ConfigError: somebody else could have put one there, or the folder cannot be made.
    """
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    folder = parent / FOLDER / key
    try:
        for one in (parent, parent / FOLDER, folder):
            one.mkdir(mode=0o700, parents=True, exist_ok=True)  # one by one: the mode is that of the last of `parents`
            found = one.stat()
            if hasattr(os, "getuid") and (found.st_uid != os.getuid() or found.st_mode & WRITABLE_BY_OTHERS):
                raise ConfigError(
                    f"{one}: got a folder that others may write to, expected one of your own: an engine in it would "
                    f"run as a program of yours; chmod go-w it, or name another folder for engines"
                )
    except OSError as error:
        raise ConfigError(
            f"{folder}: cannot be made ({error.strerror}), expected a folder for engines; name another one"
        ) from error
    return folder
