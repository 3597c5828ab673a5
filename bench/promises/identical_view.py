"""Whether masks are the same bits, as a table and as a figure."""

from sennet_bench.promises.identical import IdenticalMeasurement
from sennet_bench.report.figure import Figure, Nature
from sennet_bench.report.table import Table


def identity_table(measured: IdenticalMeasurement) -> Table:
    """A row for each way."""
    z, y, x = measured.shape_zyx
    notes = [f"{measured.volume}, {z} × {y} × {x}; {measured.model} on {measured.runtime}."]
    if measured.kills:
        notes.append(
            f"{measured.kills} kills by SIGKILL at random moments, over {measured.runs_with_kills} runs; "
            f"{measured.planes_resumed} planes were found done when they went on the last time."
        )
    return Table(
        heads=("", "sha256 of the mask's voxels", "identical"),
        rows=tuple((one.title, one.mask_sha256[:16], "yes" if one.identical else "NO") for one in measured.results),
        notes=(*notes, str(measured.circumstances)),
    )


def identity_figures(measured: IdenticalMeasurement) -> list[Figure]:
    """The share of the ways whose mask is the command's."""
    share = sum(one.identical for one in measured.results) / len(measured.results)
    return [Figure("share of the masks that are the same bits", "", (share,), Nature.QUALITY, more_is_better=True)]
