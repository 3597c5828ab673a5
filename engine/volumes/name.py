"""The short name of a volume: its file's name without the container's suffix, or its folder's name as it is."""

from pathlib import Path

# `.ome.tif` before `.tif`, with which it ends as well.
SUFFIXES = (".ome.tiff", ".ome.tif", ".tiff", ".tif", ".npy")


def volume_name(path: Path) -> str:
    """`kidney_5.2um_voi` for `kidney_5.2um_voi.ome.tif` and for a folder `kidney_5.2um_voi`.

    Only known suffixes are taken off, whatever their case: other dots belong to the name.
    """
    name = path.name if path.name not in ("", "..") else path.resolve().name
    if path.is_dir():
        return name
    suffix = next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), "")
    return name[: len(name) - len(suffix)] or name
