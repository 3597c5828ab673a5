"""By how much planes are resized before a network sees them, so that vessels have the size that it was trained on."""

from sennet_engine.errors import ConfigError
from sennet_engine.planning.axes import Axis, axis_first

Scale = tuple[float, float]

# Resizing blurs and costs; a network is shown crops that differ by more than this in every training.
NO_SCALE_WITHIN = 0.05
LARGEST_SCALE = 20.0
# Of one resized plane, 1 GB as uint8: more is a wrong voxel size, not a scan.
MOST_PIXELS = 2**30


def scale_of(
    voxel_size_um: tuple[float, float, float] | None, trained_um: float, axis: Axis, *, override: float | None = None
) -> Scale:
    """(rows, columns): network pixels a voxel, for planes along `axis`.

    Voxel size over `trained_um`, each of the two by itself: 63.08 µm voxels are shown 1.26 times as large to a network
    for 50 µm. Within 5 % of 1 it is exactly 1, and so it is where the voxel size is unknown.

    Args:
        voxel_size_um: of the volume, (Z, Y, X).
        trained_um: voxel size that the network was trained for.
        override: what to take in place of both, just as it is.

    Raises:
        ConfigError: more than 20 or less than a twentieth.
    """
    if override is not None:
        return _checked((override, override), f"got a scale of {override:g}")
    if voxel_size_um is None:
        return 1.0, 1.0
    _, *sizes = axis_first(voxel_size_um, axis)
    rows, columns = (_near_one(size / trained_um) for size in sizes)
    return _checked((rows, columns), f"got voxels of {_sizes(sizes)} µm for a model of {trained_um:g} µm")


def network_shape(plane_shape: tuple[int, int], scale: Scale) -> tuple[int, int]:
    """Rows and columns of a plane of `plane_shape` after resizing by `scale`: rounded, 1 at least.

    Raises:
        ConfigError: the resized plane would have more than 2**30 pixels.
    """
    rows, columns = (max(1, int(side * factor + 0.5)) for side, factor in zip(plane_shape, scale, strict=True))
    if scale != (1.0, 1.0) and rows * columns > MOST_PIXELS:
        raise ConfigError(
            f"scale: planes of {plane_shape[0]} × {plane_shape[1]} would become {rows} × {columns}, expected at most "
            f"{MOST_PIXELS} pixels; give the true --voxel-size, or --scale 1"
        )
    return rows, columns


def scale_reason(scale: Scale, voxel_size_um: tuple[float, float, float] | None, trained_um: float, axis: Axis) -> str:
    """What `scale_of` without an override did and why, in one line for the plan's reasons."""
    what, model = scale_text(scale) or "planes are not resized", f"a model of {trained_um:g} µm"
    if voxel_size_um is None:
        return f"{what}: the voxel size is unknown, and taken as that of {model}"
    _, *sizes = axis_first(voxel_size_um, axis)
    near = any(size != trained_um and factor == 1 for size, factor in zip(sizes, scale, strict=True))
    return f"{what}: {_sizes(sizes)} µm voxels into {model}" + (f", within {NO_SCALE_WITHIN:.0%} of it" if near else "")


def scale_text(scale: Scale) -> str:
    """For people: "planes are magnified 1.26 times"; nothing where they are not resized."""
    rows, columns = scale
    if rows == columns:
        return "" if rows == 1 else f"planes are {_times(rows)}"
    return f"planes are {_times(rows)} in height and {_times(columns)} in width"


def _times(factor: float) -> str:
    if factor == 1:
        return "not resized"
    return f"magnified {factor:.3g} times" if factor > 1 else f"reduced to {factor:.3g} of their size"


def _near_one(factor: float) -> float:
    return 1.0 if round(abs(factor - 1), 9) <= NO_SCALE_WITHIN else factor


def _checked(scale: Scale, got: str) -> Scale:
    if not all(1 / LARGEST_SCALE <= factor <= LARGEST_SCALE for factor in scale):
        raise ConfigError(
            f"scale: {got}, expected planes to become at most {LARGEST_SCALE:g} times as large or as small; give the "
            f"true --voxel-size in µm, or --scale 1"
        )
    return scale


def _sizes(sizes: list[float]) -> str:
    return " × ".join(f"{size:g}" for size in dict.fromkeys(sizes))
