"""Golden tiles: what an engine must answer before it is used on a GPU that it has never run on.

An engine that was built without a GPU, or for several kinds of them, has been proven by nothing but its network. The
bundle carries tiles with the answers of the float32 graph; the engine's own answers to them are judged as the gate of
the export judges a file, with some room for the GPU's other order of sums.
"""

import io
import logging
import zipfile
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sennet_engine.bundle import Bundle
from sennet_engine.card import Parity, Precision
from sennet_engine.engine_file import EngineFacts, mark_verified
from sennet_engine.errors import EngineError, ModelError, OverflowedError
from sennet_engine.gpu.present import Gpu
from sennet_engine.predictor import Predictor, Tiles
from sennet_engine.tensorrt.loaded import LoadedEngine

logger = logging.getLogger(__name__)

# So few pixels at the threshold may flip by a difference of one grey level, however few there are in all.
FREE_FLIPS = 4
# Of what the file's graph was measured to differ, which the engine may in addition.
OF_PARITY = 2.0
# Whatever the graph loses, an engine that misses half of the vessels does not work.
LARGEST_DICE_LOSS = 0.5


@dataclass(frozen=True)
class Figures:
    """How far answers are from those expected; or how far they may be, None for any.

    Attributes:
        flipped_share: of the pixels, on the other side of the threshold.
        dice_loss: 1 - Dice of the masks. Where vessels are few, an empty mask flips next to nothing.
        mean_difference: of the probabilities, in grey levels.
        largest_difference: likewise.
    """

    flipped_share: float
    dice_loss: float
    mean_difference: float
    largest_difference: int | None = None


LIMITS: dict[Precision, Figures] = {
    "fp32": Figures(flipped_share=2e-4, dice_loss=0.01, mean_difference=0.05, largest_difference=3),
    "fp16": Figures(flipped_share=2e-3, dice_loss=0.02, mean_difference=0.5),
    "int8": Figures(flipped_share=4e-3, dice_loss=0.06, mean_difference=2.0),
}


@dataclass(frozen=True)
class Proof:
    """Whether GPUs of this kind have answered the golden tiles with the engine, and a line on it for people."""

    verified: bool
    text: str


@dataclass(frozen=True)
class _Golden:
    """Tiles of one side with the answers to them, uint8 [n, 1, side, side] each."""

    side: int
    tiles: Tiles
    expected: Tiles


def prove(predictor: Predictor, bundle: Bundle, loaded: LoadedEngine, *, gpu: Gpu) -> Proof:
    """Let `predictor`, which runs `loaded` on `gpu`, answer the bundle's golden tiles, unless such a GPU did before.

    That it did is kept in the facts beside the engine: a note that saves time, which whoever may write there may
    forge. Without golden tiles of a side that the engine takes, it stays unverified, with a warning.

    Raises:
        EngineError: the answers are too far from those expected, with the figures.
        ModelError: the golden tiles cannot be used.
    """
    here = gpu.compute_capability
    if here in loaded.facts.verified_on:
        return Proof(True, f"has answered the golden tiles on a GPU of compute capability {here}")
    golden = _golden_tiles(bundle, loaded.facts)
    if not golden:
        text = "is not verified: the bundle has no golden tiles of its sides; make some with sennet-export --target"
        logger.warning("%s %s", loaded.path.name, text)
        return Proof(False, text)
    limits, cutoff = limits_for(bundle, loaded.facts), bundle.card.threshold.value * 255
    faults: list[str] = []
    told: list[str] = []
    for one in golden:
        answers = _answers(predictor, one, loaded)
        figures, flips = _compared(answers, one.expected, cutoff)
        faults += [f"tiles of {one.side}: {fault}" for fault in _faults(figures, flips, limits)]
        told.append(f"tiles of {one.side} differ by {figures.largest_difference} of 255 at most, {flips} flips")
    if faults:
        raise EngineError(
            f"{loaded.path}: does not answer the golden tiles on {gpu.name} as the float32 graph does: "
            f"{'; '.join(faults)}; it is not used: take another precision or another runtime"
        )
    try:
        mark_verified(loaded.path, loaded.facts, compute_capability=here)
    except (OSError, ModelError) as error:
        logger.info("%s: cannot be marked as verified (%s); the next run proves it again", loaded.path, error)
    return Proof(True, f"answered the golden tiles: {', '.join(told)}")


def limits_for(bundle: Bundle, facts: EngineFacts) -> Figures:
    """How far an engine may be from the float32 graph: those of its precision, and some of what its own graph is."""
    # In TF32 a product has no more bits than in half.
    rounded = facts.precision == "fp32" and facts.identity.options.float32 == "tf32"
    base = LIMITS["fp16" if rounded else facts.precision]
    of_graph = [entry for entry in bundle.card.files.values() if entry.sha256 == facts.identity.onnx_sha256]
    parity = of_graph[0].parity if of_graph else None
    if parity is None or facts.precision == "fp32":  # the golden answers are those of the float32 graph itself
        return base
    return Figures(
        flipped_share=base.flipped_share + OF_PARITY * parity.flipped_share,
        dice_loss=min(LARGEST_DICE_LOSS, base.dice_loss + OF_PARITY * _dice_loss(parity)),
        mean_difference=base.mean_difference + OF_PARITY * parity.mean_difference,
    )


def _dice_loss(parity: Parity) -> float:
    """The gate measures the masks' outlines alone, which lose more than the masks."""
    return 0.0 if parity.surface_dice is None else 1 - parity.surface_dice


def _golden_tiles(bundle: Bundle, facts: EngineFacts) -> list[_Golden]:
    """Those of the sides that the engine takes. Raises ModelError where the file is not what an export writes."""
    names = [name for name, entry in bundle.card.files.items() if entry.kind == "golden"]
    sides = sorted({profile.side for profile in facts.identity.profiles})
    found = []
    for name in names:
        try:
            with np.load(io.BytesIO(bundle.verified_bytes(name)), allow_pickle=False) as arrays:
                for side in sides:
                    if (key := f"tiles_{side}") in arrays:
                        found.append(_checked(side, arrays[key], arrays[f"probabilities_{side}"]))
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise ModelError(
                f"{bundle.path / name}: holds no golden tiles ({error}); make them again with sennet-export --target"
            ) from error
    return found


def _checked(side: int, tiles: npt.NDArray[np.generic], expected: npt.NDArray[np.generic]) -> _Golden:
    for array in (tiles, expected):
        if array.dtype != np.uint8 or not array.size or array.shape != (len(tiles), 1, side, side):
            raise ValueError(f"got {array.dtype} {array.shape}, expected uint8 (n, 1, {side}, {side}), n at least 1")
    return _Golden(side, tiles.astype(np.uint8, copy=False), expected.astype(np.uint8, copy=False))


def _answers(predictor: Predictor, golden: _Golden, loaded: LoadedEngine) -> Tiles:
    try:
        return predictor.predict(golden.tiles).copy()
    except OverflowedError as error:
        raise ModelError(
            f"{loaded.path}: answers golden tiles of {golden.side} with NaN or infinity in {loaded.facts.precision}; "
            f"it is not used: take --precision fp32"
        ) from error


def _compared(answers: Tiles, expected: Tiles, cutoff: float) -> tuple[Figures, int]:
    """How far the answers are from those expected, and how many pixels have flipped."""
    difference = np.abs(answers.astype(np.int16) - expected)
    here, there = answers >= cutoff, expected >= cutoff
    flips, vessels = int(np.count_nonzero(here != there)), int(np.count_nonzero(here) + np.count_nonzero(there))
    figures = Figures(
        flipped_share=flips / expected.size,
        dice_loss=flips / vessels if vessels else 0.0,
        mean_difference=float(difference.mean()),
        largest_difference=int(difference.max()),
    )
    return figures, flips


def _faults(found: Figures, flips: int, limits: Figures) -> list[str]:
    """What is too far from what was expected, for people."""
    faults = []
    if flips > FREE_FLIPS and found.flipped_share > limits.flipped_share:
        faults.append(f"flips {found.flipped_share:.2e} of the pixels, at most {limits.flipped_share:.2e} are allowed")
    if flips > FREE_FLIPS and found.dice_loss > limits.dice_loss:
        faults.append(f"loses {found.dice_loss:.4f} of Dice, at most {limits.dice_loss:.4f} are allowed")
    if found.mean_difference > limits.mean_difference:
        faults.append(
            f"differs by {found.mean_difference:.3f} grey levels on average, at most {limits.mean_difference:.3f} are "
            f"allowed"
        )
    largest, most = found.largest_difference, limits.largest_difference
    if largest is not None and most is not None and largest > most:
        faults.append(f"differs by up to {largest} grey levels, at most {most} are allowed")
    return faults
