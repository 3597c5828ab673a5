"""Files of measurements in pairs, the old and the new of one thing, and what a check of all of them gives."""

from dataclasses import dataclass
from pathlib import Path

from sennet_bench.check.figures import CONCLUDED, Row, State, decided, rows_of_figures
from sennet_bench.check.machines import compare_machines
from sennet_bench.measurements import KINDS, Measurement, read_measurement
from sennet_engine.errors import ConfigError


@dataclass(frozen=True)
class Check:
    """Of one pair of files or of several.

    Attributes:
        tolerance: the share by which a figure may be worse.
        rows: of all figures of all pairs.
        warnings: what makes it worth less, each with its file.
    """

    tolerance: float
    rows: tuple[Row, ...]
    warnings: tuple[str, ...]

    def of(self, *states: State) -> list[Row]:
        """The rows in these states."""
        return [row for row in self.rows if row.state in states]

    @property
    def exit_code(self) -> int:
        """1 for a regression, 2 where nothing could be concluded, else 0."""
        if self.of(State.WORSE):
            return 1
        return 0 if self.of(*CONCLUDED) else 2


def check_files(old: Path, new: Path, *, tolerance: float) -> Check:
    """Compare two files, or the files of two folders that have the same names.

    Raises:
        ConfigError: a file that is no measurement, no pair of files, or two that measured different things.
    """
    pairs, lonely = _pairs(old, new)
    rows: list[Row] = []
    warned: dict[str, list[str]] = {}
    for name, before_path, after_path in pairs:
        before, after = read_measurement(before_path), read_measurement(after_path)
        _demand_same_subject(after_path, before, after)
        machines = compare_machines(before.circumstances, after.circumstances)
        told = [*machines.warnings]
        if machines.differences:
            told.insert(0, f"ANOTHER MACHINE ({'; '.join(machines.differences)}): only scores and counts are compared")
        elif machines.speed_difference > tolerance:
            told.append(
                f"matrix products ran at speeds {machines.speed_difference:.0%} apart: seconds may differ by as much"
            )
        for one in told:
            warned.setdefault(one, []).append(name)
        figures = KINDS[before.kind].figures
        rows += rows_of_figures(name, figures(before), figures(after), machines, tolerance=tolerance)
    warnings = [f"{one} ({', '.join(names)})" for one, names in warned.items()]
    return Check(tolerance, tuple(decided(rows)), (*warnings, *lonely))


def _pairs(old: Path, new: Path) -> tuple[list[tuple[str, Path, Path]], list[str]]:
    if old.is_dir() != new.is_dir():
        folder, file = (old, new) if old.is_dir() else (new, old)
        raise ConfigError(f"{folder} is a folder and {file} is none; give two files or two folders")
    if not old.is_dir():
        return [(new.name, old, new)], []
    before, after = ({path.name: path for path in sorted(folder.glob("*.json"))} for folder in (old, new))
    common = [(name, before[name], after[name]) for name in before if name in after]
    if not common:
        raise ConfigError(f"{old} and {new} have no .json file of the same name; give folders of measurements")
    lonely = [f"{name}: only in {folder}, not compared" for mine, others, folder in
              ((before, after, old), (after, before, new)) for name in mine if name not in others]  # fmt: skip
    return common, lonely


def _demand_same_subject(path: Path, old: Measurement, new: Measurement) -> None:
    names = ("kind", *KINDS[old.kind].subject) if old.kind == new.kind else ("kind",)
    differing = [
        f"{name}: got {getattr(new, name)}, expected {getattr(old, name)}"
        for name in names
        if getattr(old, name) != getattr(new, name)
    ]
    if differing:
        raise ConfigError(
            f"{path}: measured something else than the old file: {'; '.join(differing)}; measure the same again"
        )
