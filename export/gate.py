"""The gate: a file is kept only if it answers as the trained network does, on real tiles."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import numpy.typing as npt
import onnx

from sennet_engine.card import Parity, Precision
from sennet_engine.metrics.surface_dice import surface_dice
from sennet_export.answers import Answers, Runtime, Tiles, answers_of_graph
from sennet_export.errors import GateError

logger = logging.getLogger(__name__)

Masks = npt.NDArray[np.bool_]


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
    """What was measured of a file; `finite` is whether all its answers were numbers before they became uint8."""

    parity: Parity
    finite: bool


class Gate:
    """Compares answers with those of a reference, on the same tiles.

    Args:
        tiles: uint8 [n, 1, S, S] by side S.
        reference: the answers to compare with, by side.
        side: the side whose tiles are counted; of the others only the largest difference is.
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
        if (probabilities < threshold * 255).all():
            logger.warning(
                "no pixel of %s reaches the threshold of %g, so surface Dice proves nothing; name planes with vessels "
                "by --calibration", source, threshold,
            )  # fmt: skip
        self.tiles = dict(sorted(tiles.items()))
        self._reference = dict(reference)
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
        return Measurement(parity, finite=all(_is_finite(one[self._side].logits) for one in answers))

    def _compared(self, answers: Mapping[int, Answers]) -> Parity:
        difference, by_side = {}, {}
        for side, there in self._reference.items():
            difference[side] = np.abs(answers[side].probabilities.astype(int) - there.probabilities)
            by_side[side] = int(difference[side].max())
        here, there = answers[self._side], self._reference[self._side]
        masks = [one.probabilities >= self._cutoff for one in (here, there)]
        logits = None
        if here.logits is not None and there.logits is not None and _is_finite(here.logits):
            logits = np.abs(here.logits - there.logits)
        return Parity(
            against=self._against,
            tiles=f"{self._source}, {self._side} pixels",
            tile_count=len(here.probabilities),
            largest_difference=max(by_side.values()),
            mean_difference=float(difference[self._side].mean()),
            largest_logit_difference=None if logits is None else float(logits.max()),
            mean_logit_difference=None if logits is None else float(logits.mean()),
            flipped_share=float(np.mean(masks[0] != masks[1])),
            surface_dice=_surface_dice_of_tiles(*masks),
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


def _surface_dice_of_tiles(prediction: Masks, truth: Masks) -> float | None:
    """Over masks [n, 1, S, S], each a plane of its own: an empty plane between any two keeps them apart."""
    if not (prediction.any() or truth.any()):
        return None
    gap = np.zeros_like(truth)
    apart = [np.concatenate([masks, gap], axis=1).reshape(-1, *masks.shape[2:]) for masks in (prediction, truth)]
    return surface_dice(*apart)


def _is_finite(logits: npt.NDArray[np.float32] | None) -> bool:
    return logits is None or bool(np.isfinite(logits).all())


def _values(found: Sequence[Parity], name: str) -> list[float]:
    return [getattr(one, name) for one in found if getattr(one, name) is not None]


def _named(runtime: Runtime) -> str:
    package, how = {
        "onnxruntime": ("onnxruntime", "CPU"),
        "half emulated": ("onnxruntime", "CPU, every tensor rounded to half as on a GPU"),
        "openvino": ("openvino", "CPU"),
    }[runtime]
    return f"{package} {version(package)}, {how}"
