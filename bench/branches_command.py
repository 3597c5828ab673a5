"""The command `sennet-bench drop-branches`: sparse labels from dense ones."""

from pathlib import Path
from typing import Annotated

import typer


def drop_branches(
    labels: Annotated[Path, typer.Argument(help="Dense labels: a TIFF, a .npy file or a folder of slices.")],
    out: Annotated[Path, typer.Argument(metavar="OUT.tif", help="The sparse labels to write, 0/1.")],
    keep: Annotated[float, typer.Option(help="Share of the labelled voxels to keep.")],
    seed: Annotated[int, typer.Option(min=0, help="The order is a little random; equal seeds, equal labels.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file that is there.")] = False,
) -> None:
    """Drop whole branches from dense labels, thin and short ones first, until the stated share is left."""
    from sennet_bench.branches import dropped_branches
    from sennet_bench.stack_files import read_mask, refuse_stack_file, write_stack
    from sennet_engine.errors import OutputError
    from sennet_engine.volumes.open import open_volume

    refuse_stack_file(out, overwrite=overwrite)  # before the work, not after it
    if out.resolve() == labels.resolve():
        raise OutputError(f"{out}: is the dense labels themselves, which are not replaced; choose another name")
    dense = read_mask(labels)
    with open_volume(labels) as volume:
        voxel_size_um = volume.voxel_size_um
    sparse = dropped_branches(dense, keep=keep, seed=seed)
    write_stack(out, sparse.mask, voxel_size_um)
    typer.echo(f"branches {sparse.branches}, of which {sparse.dropped} are dropped")
    typer.echo(f"labels   {out}: {sparse.kept_share:.1%} of the {dense.sum()} labelled voxels stay")
    if not sparse.meets(keep):
        typer.echo(
            f"warning: the branches left are too large to come nearer to {keep:.1%}; state the share above", err=True
        )
