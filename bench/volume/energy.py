"""Energy that the processors took, by the counters that Linux shows of them (RAPL, `powercap`)."""

from pathlib import Path

POWERCAP = Path("/sys/class/powercap")


class UntoldError(Exception):
    """Something cannot be measured here; the text says why, for people."""


class ProcessorEnergy:
    """Joules of the processors' packages since its making: all programs of the machine, without the memory's chips.

    The counters begin anew at some value, after minutes under load: `sample` is to be called more often than that.
    (Linux, Documentation/power/powercap/powercap.rst.)

    Raises:
        UntoldError: there are no such counters, or they may not be read.
    """

    def __init__(self, folder: Path = POWERCAP) -> None:
        self._counters = [_Counter(zone) for zone in _packages(folder)]
        if not self._counters:
            raise UntoldError(f"{folder} has no counters of the processors' energy, as in most virtual machines")

    def sample(self) -> None:
        """Take over what was added to the counters. Raises UntoldError where they cannot be read any more."""
        for counter in self._counters:
            counter.sample()

    def value(self) -> float:
        """Joules until the last `sample`."""
        return sum(counter.microjoules for counter in self._counters) / 1e6


class _Counter:
    """One package: a count of microjoules that goes from 0 to `max_energy_range_uj` and begins anew."""

    def __init__(self, zone: Path) -> None:
        self._file = zone / "energy_uj"
        self._range = _number(zone / "max_energy_range_uj")
        self._last = _number(self._file)
        self.microjoules = 0

    def sample(self) -> None:
        now = _number(self._file)
        self.microjoules += now - self._last if now >= self._last else now - self._last + self._range
        self._last = now


def _packages(folder: Path) -> list[Path]:
    """Zones of whole packages: not their parts, which they contain, and not the platform, which contains them."""
    return [zone for zone in sorted(folder.glob("intel-rapl:*")) if _text(zone / "name").startswith("package")]


def _number(file: Path) -> int:
    text = _text(file)
    try:
        return int(text)
    except ValueError as error:
        raise UntoldError(f"{file}: holds {text!r}, no number") from error


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace").strip()
    except PermissionError as error:
        raise UntoldError(f"{file}: only root may read it; for all others: sudo chmod a+r {file}") from error
    except OSError as error:
        raise UntoldError(f"{file}: cannot be read ({error.strerror})") from error
