"""`sennet-train pseudo-label`: add what networks find to sparse labels."""

from typing import TYPE_CHECKING, Annotated

import typer

from sennet_trainer.commands.prediction_options import (
    AxesOption,
    DeviceOption,
    ImagesOption,
    InvertOption,
    LabelsOption,
    NetworksArgument,
    OutOption,
    QuietOption,
    SlicesOption,
    says_how_to_go_on,
    volume_of,
)

if TYPE_CHECKING:
    from sennet_trainer.prediction.pseudo_labels import PseudoLabels

# Thousandths in the printed table; the whole one is in pseudo_labels.json.
PRINTED_MILLI = range(100, 1000, 100)


def pseudo_label(
    networks: NetworksArgument,
    images: ImagesOption,
    labels: LabelsOption,
    out: OutOption,
    label_fraction: Annotated[float, typer.Option(help="The share of the vessels that is labelled; chooses.")],
    threshold: Annotated[
        list[float] | None, typer.Option(help="Use this one instead; may be given several times: a file for each.")
    ] = None,
    axes: AxesOption = "zyx",
    slices: SlicesOption = None,
    invert: InvertOption = False,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
) -> None:
    """Predict a sparsely labelled volume and add what is found to its labels.

    The threshold is the one at which the labelled voxels are the stated share of all vessels. Label files hold 0, 1 for
    a real label and 2 for an added one.
    """
    from sennet_trainer.device import device_from_name
    from sennet_trainer.prediction.progress import prediction_progress
    from sennet_trainer.prediction.pseudo_labels import CURVE, LABEL_PICTURE
    from sennet_trainer.prediction.pseudo_labels import pseudo_label as add_pseudo_labels
    from sennet_trainer.prediction.task import prediction_task

    volume = volume_of(images, labels, slices=slices, label_fraction=label_fraction, invert=invert)
    with says_how_to_go_on(), prediction_progress(quiet=quiet) as observer:
        task = prediction_task(volume, networks, axes=axes, cache=out / "cache")
        found = add_pseudo_labels(
            task, out, thresholds=threshold or None, device=device_from_name(device), observer=observer
        )
    typer.echo(_table(found))
    met = "" if found.met else ", which is not met"
    typer.echo(
        f"chosen   {found.chosen_threshold:.3f}: {found.labelled_share:.1%} of the vessels are labelled; stated "
        f"{found.label_fraction:.1%}{met}"
    )
    for file in found.files.values():
        typer.echo(f"labels   {out / file.name}: {file.added_voxels:,} voxels added at {file.threshold:.3f}")
    typer.echo(f"picture  {out / LABEL_PICTURE}")
    typer.echo(f"curve    {out / CURVE}")


def _table(found: "PseudoLabels") -> str:
    shown = {*PRINTED_MILLI, round(1000 * found.chosen_threshold), *(round(1000 * float(key)) for key in found.files)}
    lines = ["threshold  true pos.  false pos.  false neg.  labelled share"]
    for row in found.rows:
        if round(1000 * row.threshold) in shown:
            lines.append(
                f"{row.threshold:9.3f} {row.true_positives:10,} {row.false_positives:11,} {row.false_negatives:11,} "
                f"{row.labelled_share:15.3f}"
            )
    return "\n".join(lines)
