"""Open what `--model` names: an ensemble's file with all of its bundles, or a bundle alone, or the built-in model."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from math import gcd, lcm
from pathlib import Path

from sennet_engine.bundle import BUILTIN, Bundle, open_bundle
from sennet_engine.card import Precision
from sennet_engine.config import load_config
from sennet_engine.ensemble import BUILTIN_NAME, Ensemble, Flip, PassSettings, ensemble_of_model
from sennet_engine.errors import ConfigError, ModelError
from sennet_engine.pipeline.canvas import ACCUMULATORS
from sennet_engine.planning.axes import Axis
from sennet_engine.planning.blending import usual_step
from sennet_engine.planning.scale import Scale, scale_of, scale_reason, scale_text

SUFFIX = ".toml"
WHERE_BUNDLES_ARE = "`sennet-export RUN` makes a bundle; `--models FOLDER` says in which folder they all are"


@dataclass(frozen=True)
class OpenedEnsemble:
    """An ensemble whose bundles are all there and fit it.

    Attributes:
        name: of the ensemble's file or of the bundle, for people.
        ensemble: as the file says.
        bundles: by the keys of `model_key`, one for each model and precision. Each bundle was opened once.
        precision: of the passes that do not say their own.
        threshold: a voxel is vessel where the weighted mean probability is at or above it.
    """

    name: str
    ensemble: Ensemble
    bundles: dict[str, Bundle]
    precision: Precision
    threshold: float

    @property
    def sha256s(self) -> dict[str, str]:
        """Of every file that the cards vouch for, as MODEL/FILE."""
        return {
            f"{key.rpartition(' ')[0]}/{name}": file.sha256
            for key, bundle in self.bundles.items()
            for name, file in bundle.card.files.items()
        }


@dataclass(frozen=True)
class Pass:
    """One network over the planes along one axis, mirrored in one way.

    Attributes:
        name: for people: "final_maxvit z, rows flipped".
        key: of its bundle and precision, see `model_key`.
        scale: network pixels a voxel, of rows and columns.
        scale_reason: for people: what is done to the planes, and why.
        tile: side of the tiles; None where the network is exact on tiles, and the plan is free to choose.
        stride: distance of neighbouring tiles; None where the network is exact on tiles.
        weight: what remains is divided by the sum of the weights of all passes.
    """

    name: str
    key: str
    bundle: Bundle
    precision: Precision
    axis: Axis
    flip: Flip
    scale: Scale
    scale_reason: str
    tile: int | None
    stride: int | None
    weight: int


def opened_ensemble(model: Path | None, *, models: Path | None = None, precision: Precision) -> OpenedEnsemble:
    """Read the ensemble `model` and open its bundles, each once.

    Args:
        model: a TOML file, or a bundle's folder, which is an ensemble of one pass; None is the built-in model.
        models: the folder in which the bundles of a TOML file lie; by default that of the file.
        precision: of the passes that do not say their own.

    Raises:
        ConfigError: the file cannot be read, or a key or value in it cannot be used (all problems at once).
        ModelError: bundles that are missing, damaged, without the precision, or unfit for their pass (all at once).
    """
    ensemble, name, folder = _read(model, models)
    opened: dict[Path, Bundle | ModelError] = {}
    bundles: dict[str, Bundle] = {}
    problems: dict[str, None] = {}  # each once, in their order
    for one in ensemble.passes:
        path = BUILTIN if one.model == BUILTIN_NAME else folder / one.model
        if path.resolve() not in opened:
            opened[path.resolve()] = _opened(path)
        bundle = opened[path.resolve()]
        if isinstance(bundle, ModelError):
            problems[str(bundle)] = None
            continue
        problems |= dict.fromkeys(_faults(one, bundle, one.precision or precision))
        bundles[model_key(one, precision)] = bundle
    if problems and (model is None or model.suffix != SUFFIX):
        raise ModelError("\n  ".join(problems))
    if problems:
        advice = [] if all(path.exists() for path in opened) else [WHERE_BUNDLES_ARE]
        raise ModelError("\n  ".join([f"{name}: {len(problems)} problem(s)", *problems, *advice]))
    threshold = ensemble.threshold
    if threshold is None:  # then all passes are of one model
        threshold = next(iter(bundles.values())).card.threshold.value
    if ensemble.cascade and ensemble.cascade.low_bound > threshold:
        raise ConfigError(
            f"{name}: cascade.low_bound: got {ensemble.cascade.low_bound}, expected at most the model's threshold "
            f"{threshold}, or vessels are lost"
        )
    return OpenedEnsemble(ensemble.name or name, ensemble, bundles, precision, threshold)


def model_key(one: PassSettings, precision: Precision) -> str:
    """The key of the bundle and precision of a pass: "final_maxvit.model fp32"; the same wherever the bundles lie."""
    return f"{os.path.normpath(one.model)} {one.precision or precision}"


def expanded_passes(
    ensemble: Ensemble,
    bundles: Mapping[str, Bundle],
    *,
    shape_zyx: tuple[int, int, int],
    voxel_size_um: tuple[float, float, float] | None,
    scale_override: float | None = None,
    precision: Precision,
) -> tuple[Pass, ...]:
    """One entry for each pass of `ensemble`, each of its axes and each of its flips, in this order.

    The axes and flips of a pass share its weight: it counts as much as `weight` says, however many they are. Axes along
    which a condition on the sides of the planes leaves it out take their share with them, so that two passes with
    opposite conditions count together as one. Weights are the smallest integers of these proportions.

    Args:
        bundles: as `opened_ensemble` has them.
        shape_zyx, voxel_size_um: of the volume; the voxel size where it is known.
        scale_override: in place of the voxel sizes, and of the scales that passes name.

    Raises:
        ConfigError: no pass is left for such planes, weights that add up to more than a canvas holds, or a scale out of
            its range.
    """
    found: list[tuple[Fraction, Pass]] = []
    for one in ensemble.passes:
        key = model_key(one, precision)
        tiling = bundles[key].card.tiling
        tile = one.tile if tiling.exact else one.tile or tiling.default_side
        for axis in one.axes_for(shape_zyx):
            scale, reason = _scale_and_reason(one, bundles[key].card.voxel_size_um, axis, voxel_size_um, scale_override)
            for flip in one.flips:
                entry = Pass(
                    name=_name(one, bundles[key].card.name, axis, flip, scale),
                    key=key,
                    bundle=bundles[key],
                    precision=one.precision or precision,
                    axis=axis,
                    flip=flip,
                    scale=scale,
                    scale_reason=reason,
                    tile=tile,
                    stride=None if tile is None or tiling.exact else one.stride or usual_step(tile, tiling.stride),
                    weight=1,
                )
                found.append((Fraction(one.weight, len(one.axes) * len(one.flips)), entry))
    if not found:
        conditions = sorted({text for one in ensemble.passes for text in one.conditions})
        raise ConfigError(
            f"no pass is left for a volume of {' × '.join(map(str, shape_zyx))} voxels, since none of the conditions "
            f"holds: {', '.join(conditions)}; give a pass without"
        )
    weights = _smallest_integers([share for share, _ in found])
    if sum(weights) > max(ACCUMULATORS):
        raise ConfigError(
            f"weights: got a total of {sum(weights)}, expected at most {max(ACCUMULATORS)}; give simpler proportions"
        )
    return tuple(replace(entry, weight=weight) for weight, (_, entry) in zip(weights, found, strict=True))


def _read(model: Path | None, models: Path | None) -> tuple[Ensemble, str, Path]:
    """The ensemble, its name, and the folder that its bundles are in."""
    named_builtin = model is None or (str(model) == BUILTIN_NAME and not model.exists())
    if model is not None and not named_builtin and (model.suffix == SUFFIX or model.is_file()):
        if model.suffix != SUFFIX:
            raise ConfigError(f"{model}: is a file, expected an ensemble {SUFFIX} or the folder of a model bundle")
        return load_config(model, Ensemble), model.stem, models or model.parent
    if models is not None:
        raise ConfigError(f"--models: is where the bundles of an ensemble's {SUFFIX} are; give one by --model")
    if model is None or named_builtin:
        return ensemble_of_model(BUILTIN_NAME), BUILTIN_NAME, Path()
    model = model if model.name else model.resolve()
    return ensemble_of_model(model.name), model.stem, model.parent


def _opened(path: Path) -> Bundle | ModelError:
    try:
        return open_bundle(path)
    except ModelError as error:
        return error


def _faults(one: PassSettings, bundle: Bundle, precision: Precision) -> Iterator[str]:
    """Why the bundle cannot be used as the pass says."""
    tiling = bundle.card.tiling
    try:
        bundle.onnx_name(precision)
    except ModelError as error:
        yield str(error)
    side = one.tile or tiling.default_side
    if side not in tiling.sides:
        yield (
            f"{one.model}: got tile = {side}, expected one of {', '.join(map(str, tiling.sides))}, for which it was "
            f"measured; where the network takes others: sennet-export RUN --tile {side}"
        )
    if one.stride is None:
        return
    if tiling.exact:
        yield f"{one.model}: got stride = {one.stride}, expected none: its tiles overlap by its halo, and never blend"
    elif one.stride % tiling.stride or one.stride > side:
        nearest = min(max(1, one.stride // tiling.stride) * tiling.stride, side)
        yield (
            f"{one.model}: got stride = {one.stride}, expected a multiple of {tiling.stride} up to the tile of {side}; "
            f"try {nearest}"
        )


def _scale_and_reason(
    one: PassSettings,
    trained_um: float,
    axis: Axis,
    voxel_size_um: tuple[float, float, float] | None,
    scale_override: float | None,
) -> tuple[Scale, str]:
    asked = one.scale if scale_override is None else scale_override
    scale = scale_of(voxel_size_um, trained_um, axis, override=asked)
    if asked is None:
        return scale, scale_reason(scale, voxel_size_um, trained_um, axis)
    who = "the ensemble" if scale_override is None else "--scale"
    return scale, f"{scale_text(scale) or 'planes are not resized'}: {who} says so"


def _smallest_integers(shares: list[Fraction]) -> list[int]:
    """Integers in the proportions of `shares`."""
    common = lcm(*(share.denominator for share in shares))
    weights = [int(share * common) for share in shares]
    return [weight // gcd(*weights) for weight in weights]


def _name(one: PassSettings, model: str, axis: Axis, flip: Flip, scale: Scale) -> str:
    """What tells the pass from the others: "maxvit z, tiles of 512, rows flipped, 1.26 times"."""
    tile = f"tiles of {one.tile}" if one.tile else ""
    flipped = {"none": "", "both": "both flipped"}.get(flip, f"{flip} flipped")
    sizes = " and ".join(f"{factor:.3g}" for factor in dict.fromkeys(scale))
    scaled = "" if scale == (1.0, 1.0) else f"{sizes} times as large"
    return ", ".join(part for part in (f"{model} {axis}", tile, flipped, scaled) if part)
