"""A copy of a bundle for one tile side: engines are built for every side of a card, which would take too long."""

import json
import shutil
from pathlib import Path

from sennet_engine.bundle import CARD_NAME, Bundle, open_bundle
from sennet_engine.errors import ModelError, OutputError


def copy_for_one_side(model: Path, folder: Path) -> tuple[Bundle, int]:
    """Copy the bundle `model`, without its engines, to `folder`; the copy and its tile side, the largest for engines.

    Raises:
        ModelError: no bundle that can be used, or one without an fp16 ONNX file.
        OutputError: it cannot be written.
    """
    card = open_bundle(model).card
    kept = {name for name, file in card.files.items() if file.kind in ("weights", "onnx", "golden")}
    side = max(card.tiling.engine_sides)
    table = json.loads((model / CARD_NAME).read_text(encoding="utf-8"))
    table["tiling"] |= {"sides": [side], "default_side": side}
    table["files"] = {name: file for name, file in table["files"].items() if name in kept}
    try:
        folder.mkdir(parents=True)
        for name in kept:
            shutil.copy2(model / name, folder / name)
        (folder / CARD_NAME).write_text(json.dumps(table, indent=2), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror}); choose another --out") from error
    bundle = open_bundle(folder)
    if "fp16" not in {file.precision for file in bundle.card.files.values()}:
        raise ModelError(f"{model}: holds no fp16 ONNX file, which the check compares; export it with --fp16")
    return bundle, side
