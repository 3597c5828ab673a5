"""The gate: a file is kept only if it answers as the trained network does, on real tiles."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from sennet_engine.card import Parity, Precision
from sennet_engine.metrics.surface_dice import surface_dice
from sennet_export.answers import Answers, Runtime, Tiles, answers_of_graph
from sennet_export.errors import GateError

Masks = npt.NDArray[np.bool_]
THICKNESS = 8  # planes for which a tile stands


@dataclass(frozen=True)
class Limits:
    """How far a file's answers may be from those that it is compared with.

    Attributes:
        flipped_share: of the pixels, on the other side of the threshold.
        largest_difference: in grey levels of the probability; None for any.
        surface_dice_loss: 1 - surface Dice of the masks; None for any.
    """

    flipped_share: float
    largest_difference: int | None = None
    surface_dice_loss: float | None = None


LIMITS: dict[Precision, Limits] = {
    # One grey level is what rounding to uint8 can turn a difference of 1e-7 into.
    "fp32": Limits(flipped_share=1e-4, largest_difference=1),
    "fp16": Limits(flipped_share=1e-3, surface_dice_loss=0.01),
    "int8": Limits(flipped_share=2e-3, surface_dice_loss=0.03),
}


def limits_for(precision: Precision, allowed_loss: float | None) -> Limits:
    """The limits of `precision`; where a person gave `allowed_loss` of surface Dice, that alone."""
    if allowed_loss is None:
        return LIMITS[precision]
    return Limits(flipped_share=1.0, surface_dice_loss=allowed_loss)


@dataclass(frozen=True)
class Measurement:
    """What was measured of a file.

    Attributes:
        parity: how far its answers are from the reference.
        finite: whether all its answers were numbers before they became uint8, and it says so where it watches for it.
    """

    parity: Parity
    finite: bool


class Gate:
    """Compares answers with those of a reference, on the same tiles.

    Attributes:
        has_vessels: whether any pixel of the reference reaches the threshold.

    Args:
        tiles: uint8 [n, 1, S, S] by side S.
        reference: the answers to compare with, by side.
        side: the side whose mean and logits are measured; the other figures are of all sides.
        threshold: the probability from which a pixel is vessel.
        source: where the tiles are from.
        against: what the reference is.

    Raises:
        GateError: the reference answers the same everywhere, so that nothing can be proven.
    """

    def __init__(
        self, tiles: Mapping[int, Tiles], reference: Mapping[int, Answers], *,
        side: int, threshold: float, source: str, against: str,
    ) -> None:  # fmt: skip
        probabilities = reference[side].probabilities
        if probabilities.min() == probabilities.max():
            raise GateError(
                f"the network answers {probabilities.min()} of 255 everywhere on {source}, so nothing can be proven; "
                f"train it longer, or name planes with vessels by --calibration"
            )
        self.tiles = dict(sorted(tiles.items()))
        self.has_vessels = bool((probabilities >= threshold * 255).any())
        self._reference = {side: reference[side] for side in self.tiles}
        self._side, self._cutoff, self._source, self._against = side, threshold * 255, source, against

    def measured(self, model: onnx.ModelProto, runtimes: Sequence[Runtime]) -> Measurement:
        """How far the graph's answers are from the reference, at worst over `runtimes`."""
        answers = [answers_of_graph(model, self.tiles, runtime=runtime) for runtime in runtimes]
        found = [self._compared(one) for one in answers]
        worst = {name: max(_values(found, name)) for name in LARGER_IS_WORSE if _values(found, name)}
        parity = found[0].model_copy(
            update=worst
            | {
                "surface_dice": min(_values(found, "surface_dice"), default=None),
                "largest_by_side": {side: max(one.largest_by_side[side] for one in found) for side in self.tiles},
                "runtimes": [_named(runtime) for runtime in runtimes],
            }
        )
        return Measurement(parity, finite=all(_is_finite(side) for one in answers for side in one.values()))

    def _compared(self, answers: Mapping[int, Answers]) -> Parity:
        pairs = {side: (answers[side], there) for side, there in self._reference.items()}
        difference = {
            side: np.abs(here.probabilities.astype(int) - there.probabilities) for side, (here, there) in pairs.items()
        }
        masks = [tuple(one.probabilities >= self._cutoff for one in pair) for pair in pairs.values()]
        by_side = {side: int(values.max()) for side, values in difference.items()}
        logits = _logit_differences(*pairs[self._side])
        return Parity(
            against=self._against,
            tiles=f"{self._source}, {self._side} pixels",
            tile_count=len(self.tiles[self._side]),
            largest_difference=max(by_side.values()),
            mean_difference=float(difference[self._side].mean()),
            largest_logit_difference=None if logits is None else float(logits.max()),
            mean_logit_difference=None if logits is None else float(logits.mean()),
            flipped_share=max(float(np.mean(here != there)) for here, there in masks),
            surface_dice=_surface_dice_of_tiles(masks),
            largest_by_side=by_side,
        )


LARGER_IS_WORSE = (
    "largest_difference", "mean_difference", "largest_logit_difference", "mean_logit_difference", "flipped_share",
)  # fmt: skip


def fault(measurement: Measurement, limits: Limits) -> str | None:
    """What is wrong with a file, or None where it passes."""
    if not measurement.finite:
        return "answers that are not numbers"
    parity = measurement.parity
    loss = 1 - parity.surface_dice if parity.surface_dice is not None else 0.0
    if limits.surface_dice_loss is not None and loss > limits.surface_dice_loss:
        return f"loses {loss:.4f} of surface Dice, at most {limits.surface_dice_loss:g} are allowed"
    if parity.flipped_share > limits.flipped_share:
        return f"flips {parity.flipped_share:.2e} of the pixels, at most {limits.flipped_share:g} are allowed"
    if limits.largest_difference is not None and parity.largest_difference > limits.largest_difference:
        return (
            f"differs from {parity.against} by up to {parity.largest_difference} grey levels, at most "
            f"{limits.largest_difference} are allowed"
        )
    return None


def _logit_differences(here: Answers, there: Answers) -> npt.NDArray[np.float32] | None:
    """|difference| [n, 1, S, S]; None where there are no logits, or some are not numbers."""
    if here.logits is None or there.logits is None or not np.isfinite(here.logits).all():
        return None
    differences: npt.NDArray[np.float32] = np.abs(here.logits - there.logits)
    return differences


def _surface_dice_of_tiles(pairs: Sequence[tuple[Masks, ...]]) -> float | None:
    """Over pairs of masks [n, 1, S, S] of all sides together; None where all are empty.

    Vessels go straight on through THICKNESS planes: of a single plane the two faces would count most, and hide what
    became of the outline. An empty plane keeps tiles apart.
    """
    largest = max(masks.shape[-1] for pair in pairs for masks in pair)
    prediction, truth = (np.concatenate([_as_slabs(pair[which], largest) for pair in pairs]) for which in (0, 1))
    return surface_dice(prediction, truth) if prediction.any() or truth.any() else None


def _as_slabs(masks: Masks, side: int) -> Masks:
    slabs = np.concatenate([np.repeat(masks, THICKNESS, axis=1), np.zeros_like(masks)], axis=1)
    missing = side - masks.shape[-1]
    return np.pad(slabs.reshape(-1, *masks.shape[2:]), ((0, 0), (0, missing), (0, missing)))


def _is_finite(answers: Answers) -> bool:
    return not answers.overflowed and (answers.logits is None or bool(np.isfinite(answers.logits).all()))


def _values(found: Sequence[Parity], name: str) -> list[float]:
    return [getattr(one, name) for one in found if getattr(one, name) is not None]


def _named(runtime: Runtime) -> str:
    if runtime == "openvino":
        return f"openvino {version('openvino')}, CPU"
    # Its package has another name where it is built for GPUs.
    return f"onnxruntime {onnxruntime.__version__}, {HOW[runtime]}"


HOW: dict[Runtime, str] = {
    "onnxruntime": "CPU",
    "half emulated": "CPU, every tensor rounded to half as on a GPU",
    "integers emulated": "CPU, integers emulated in float32",
}
