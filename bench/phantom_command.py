"""The command `sennet-bench phantom`: a synthetic kidney with known arteries, as TIFF volumes in a folder."""

from pathlib import Path
from typing import Annotated, Any

import typer


def phantom(
    out: Annotated[Path, typer.Argument(help="The folder to write; it must not exist.")],
    shape: Annotated[str, typer.Option(help="Planes, rows and columns.", metavar="Z,Y,X")] = "64,512,512",
    kidney: Annotated[int, typer.Option(help="Whose grey levels and noise: 1, 2 or 3.")] = 1,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
    keep: Annotated[float | None, typer.Option(help="Share of the vessel voxels in labels_sparse.tif.")] = None,
    voxel_size: Annotated[float, typer.Option(help="In µm; the organ fits the plane at 50.")] = 50.0,
    content: Annotated[str, typer.Option(help="kidney, or gel: mounting gel without an organ.")] = "kidney",
    bits: Annotated[int, typer.Option(help="Of a voxel of image.tif: 16, or 8 as in the published slices.")] = 16,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the phantom that is there.")] = False,
) -> None:
    """Make a phantom: image, labels of the arteries, and the veins that look almost like them."""
    from sennet_bench.shape_option import shape_from_text
    from sennet_engine.storage.output_folder import refuse_existing
    from sennet_trainer.phantom import PhantomSettings, make_phantom, write_phantom
    from sennet_trainer.phantom.files import PHANTOM

    values: dict[str, Any] = {"kidney": kidney, "content": content, "bits": bits}
    settings = PhantomSettings(
        shape_zyx=shape_from_text(shape), seed=seed, voxel_size_um=voxel_size, keep=keep, **values
    )  # fmt: skip
    refuse_existing(out, PHANTOM, overwrite=overwrite)  # before the work, not after it
    made = make_phantom(settings)
    for path in write_phantom(made, settings, out, overwrite=overwrite):
        typer.echo(path)
    typer.echo(
        f"vessels: {made.labels.mean():.3%} of the voxels; unlabelled veins and cavities: {made.veins.mean():.3%}"
    )
    if made.sparse_labels is not None and made.labels.any():
        typer.echo(f"sparse labels keep {made.sparse_labels.sum() / made.labels.sum():.1%} of the vessel voxels")
