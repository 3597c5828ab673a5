"""The fp16 and int8 files of a bundle, made from its fp32 graph and held to it by the gate."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import onnx

from sennet_engine.card import Kind, ModelCard, ModelFile, Precision
from sennet_export.answers import Runtime, answers_of_graph, cpu_runtimes
from sennet_export.calibration import Calibration
from sennet_export.errors import GateError
from sennet_export.files import ENGINE_INT8_NAME, ONNX_NAMES, model_file
from sennet_export.fp32 import gate_tiles
from sennet_export.gate import Gate, Limits, Measurement, fault, limits_for
from sennet_export.half.convert import half_from_onnx
from sennet_export.half.graph import prepared
from sennet_export.int8.convert import int8_from_onnx
from sennet_export.int8.layout import CPU, TENSORRT, Layout
from sennet_export.settings import ExportSettings
from sennet_export.trial import Trial
from sennet_export.work import share_of_work

OnStep = Callable[[str], None]
# How often a graph that the gate refused is made again with other operators in float.
MOST_TRIALS = 24
# With less of its multiply-adds in a precision a file does not bear its name. An engine has to have far more of them.
LEAST_SHARE = 0.25


@dataclass(frozen=True)
class MadeFile:
    """A file that passed the gate: its entry in the card, the seconds that it took, and what did not pass before."""

    name: str
    entry: ModelFile
    seconds: float
    refused: list[Trial]


class PrecisionMaker:
    """Makes ONNX files of other precisions in `folder`, beside the fp32 one.

    Attributes:
        tiles: what the gate asks, by side.
        reference: what the fp32 graph answers.

    Raises:
        GateError: the fp32 graph answers the same everywhere on the calibration, or finds nothing there.
    """

    def __init__(self, folder: Path, card: ModelCard, calibration: Calibration, settings: ExportSettings) -> None:
        self._folder, self._settings = folder, settings
        self._side = side = card.tiling.default_side
        self._fp32 = prepared(onnx.load(folder / ONNX_NAMES["fp32"]))
        self._measured_on = calibration.further_squares(side)
        self.tiles = gate_tiles(calibration, main_side=side, sides=card.tiling.sides)
        self.reference = answers_of_graph(self._fp32, self.tiles, runtime="onnxruntime")
        self._gate = Gate(
            self.tiles, self.reference, side=side, threshold=card.threshold.value, source=calibration.source,
            against=ONNX_NAMES["fp32"],
        )  # fmt: skip
        if not self._gate.has_vessels:
            raise GateError(
                f"no pixel of {calibration.source} reaches the network's threshold, so that masks prove nothing; name "
                f"a volume with vessels by --calibration"
            )

    def fp16(self, on_step: OnStep) -> MadeFile:
        """Write the graph in half precision, for every runtime and for engines.

        Raises:
            GateError: no choice of operators in float32 passes the gate; no file is left.
        """
        began = perf_counter()
        judge = self._judge("fp16", (*cpu_runtimes(self._settings.targets), "half emulated"))
        made = half_from_onnx(
            self._fp32, tiles=self._measured_on, judge=judge, most_trials=MOST_TRIALS, on_step=on_step
        )
        entry = self._written(
            ONNX_NAMES["fp16"], made.model, judge, kind="onnx", precision="fp16", kept=made.kept,
            at_fault=made.at_fault, largest_activation=made.largest[1],
        )  # fmt: skip
        return MadeFile(ONNX_NAMES["fp16"], entry, perf_counter() - began, _refused(made.trials))

    def int8(self, on_step: OnStep) -> Iterator[MadeFile]:
        """Write the graph in integers as a CPU computes it, and, where engines are built, as they take it.

        Raises:
            GateError: no choice of layers in float passes the gate; no file is left.
        """
        layouts: list[tuple[str, Kind, Layout, tuple[Runtime, ...]]] = [
            (ONNX_NAMES["int8"], "onnx", CPU, cpu_runtimes(self._settings.targets))
        ]
        if self._settings.engine_targets:
            layouts.append((ENGINE_INT8_NAME, "engine-onnx", TENSORRT, ("integers emulated",)))
        for name, kind, layout, runtimes in layouts:
            began = perf_counter()
            judge = self._judge("int8", runtimes)
            made = int8_from_onnx(
                self._fp32, tiles=self._measured_on, judge=judge, layout=layout, most_trials=MOST_TRIALS,
                on_step=on_step,
            )  # fmt: skip
            entry = self._written(
                name, made.model, judge, kind=kind, precision="int8", kept=made.kept, at_fault=tuple(made.kept),
            )  # fmt: skip
            done = MadeFile(name, entry, perf_counter() - began, _refused(made.trials))
            del made, judge  # the next layout needs the memory
            yield done

    def _judge(self, precision: Precision, runtimes: tuple[Runtime, ...]) -> "_Judge":
        return _Judge(self._gate, runtimes, limits_for(precision, self._settings.allowed_loss))

    def _written(
        self, name: str, model: onnx.ModelProto, judge: "_Judge", *, kind: Kind, precision: Precision,
        kept: Mapping[str, str], at_fault: Sequence[str], largest_activation: float | None = None,
    ) -> ModelFile:  # fmt: skip
        share = share_of_work(self._fp32, side=self._side, without=kept)
        if share < LEAST_SHARE:
            raise GateError(
                f"{name}: {share:.0%} of its multiply-adds would be in {precision}, expected at least "
                f"{LEAST_SHARE:.0%}; allow more loss by --gate, or leave out --{precision}"
            )
        path = self._folder / name
        path.unlink(missing_ok=True)  # it may be another bundle's file under a second name
        path.write_bytes(model.SerializeToString())
        return model_file(
            path, kind=kind, precision=precision, parity=judge.measured(model).parity, at_fault=list(at_fault),
            kept=dict(Counter(kept.values())), share_of_work=share, largest_activation=largest_activation,
        )  # fmt: skip


def _refused(trials: Sequence[Trial]) -> list[Trial]:
    return [trial for trial in trials if trial.fault is not None]


class _Judge:
    """Tells what is wrong with a graph, and measures no graph twice."""

    def __init__(self, gate: Gate, runtimes: Sequence[Runtime], limits: Limits) -> None:
        self._gate, self._runtimes, self._limits = gate, runtimes, limits
        self._known: dict[bytes, Measurement] = {}

    def __call__(self, model: onnx.ModelProto) -> str | None:
        return fault(self.measured(model), self._limits)

    def measured(self, model: onnx.ModelProto) -> Measurement:
        key = hashlib.sha256(model.SerializeToString(deterministic=True)).digest()
        if key not in self._known:
            self._known[key] = self._gate.measured(model, self._runtimes)
        return self._known[key]
