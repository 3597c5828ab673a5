"""What latency is measured of: models in a precision, by a runtime, with tiles of a side, so many in a call."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from sennet_bench.latency.place import Place
from sennet_engine.bundle import BUILTIN, Bundle, open_bundle
from sennet_engine.card import Precision
from sennet_engine.errors import ConfigError
from sennet_engine.planning.planner import refuse_tile
from sennet_engine.runtimes import precision_from_text


@dataclass(frozen=True)
class Combination:
    """One of them; `tile` is the side in pixels, `batch` the tiles in a call."""

    bundle: Bundle
    precision: Precision
    runtime: str
    tile: int
    batch: int

    @property
    def predictor(self) -> tuple[str, Precision, str]:
        """What those have in common that one predictor computes: the model's name, its precision, the runtime."""
        return self.bundle.card.name, self.precision, self.runtime

    def __str__(self) -> str:
        return f"{' '.join(self.predictor)}, {self.tile} × {self.tile}, batch {self.batch}"


def combinations(
    models: Sequence[Path], place: Place, *, precisions: Sequence[str], tiles: Sequence[int], batches: Sequence[int]
) -> list[Combination]:
    """All of them, those of a file one after another.

    Args:
        models: bundles; none: the built-in one.
        precisions, tiles: none: the usual ones of the place and of each model.

    Raises:
        ConfigError: no such precision, a tile that a model does not take, or two models of one name.
        ModelError: no bundle, or one without a file of the precision.
    """
    bundles = [open_bundle(path) for path in models or (BUILTIN,)]
    names = Counter(bundle.card.name for bundle in bundles)
    if twice := [name for name, count in names.items() if count > 1]:
        raise ConfigError(f"models: got {twice[0]} more than once, expected each name once; measure them one by one")
    found = []
    for bundle in bundles:
        wanted = [precision_from_text(text) for text in dict.fromkeys(precisions)] or [_usual(bundle, place)]
        sides = list(dict.fromkeys(tiles)) or [bundle.card.tiling.default_side]
        for precision in wanted:
            bundle.onnx_name(precision)
        for side in sides:
            refuse_tile(side, bundle.card.tiling, model=bundle.card.name)
        each = product(wanted, place.runtimes, sides, dict.fromkeys(batches))
        found += [Combination(bundle, *one) for one in each]
    return found


def gflop_per_tile(bundle: Bundle, precision: Precision, tile: int) -> float | None:
    """10^9 operations, 2 for a multiply-add, of the bundle's float32 graph if it has one, else of that of `precision`.

    None where the shapes of a product cannot be inferred.
    """
    import onnx

    from sennet_export.work import multiply_adds_per_pixel

    name = bundle.onnx_name("fp32" if "fp32" in _held(bundle) else precision)
    model = onnx.load_model_from_string(bundle.verified_bytes(name))
    per_pixel = multiply_adds_per_pixel(model, side=tile)
    return None if per_pixel is None else 2 * per_pixel * tile**2 / 1e9


def _usual(bundle: Bundle, place: Place) -> Precision:
    held = _held(bundle)
    return next((one for one in place.usual_precision if one in held), "fp32")


def _held(bundle: Bundle) -> set[Precision]:
    return {file.precision for file in bundle.card.files.values() if file.kind == "onnx"}
