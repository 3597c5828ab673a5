"""A phantom: a synthetic HiP-CT volume of a kidney whose arteries are known."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from sennet_engine.errors import ConfigError
from sennet_trainer.phantom.appearance import (
    Lumens,
    add_clots,
    add_noise,
    add_spots,
    paint_lumen,
    paint_organ,
    paint_wall,
)
from sennet_trainer.phantom.background import (
    add_rings,
    add_splinters,
    add_streaks,
    gel,
    outside_field_of_view,
)
from sennet_trainer.phantom.fat import add_nodes, add_specks
from sennet_trainer.phantom.frame import REFERENCE_UM, Field, Frame, cloud
from sennet_trainer.phantom.look import LOOKS, Kidney, Look
from sennet_trainer.phantom.membranes import add_flaps, add_septa, add_strands
from sennet_trainer.phantom.organ import OrganFields, organ_fields, place_organ
from sennet_trainer.phantom.sparse_labels import kept_voxels
from sennet_trainer.phantom.tubes import NearTubes, Tubes, near_tubes
from sennet_trainer.phantom.vessels import Vessels, grow_vessels

Content = Literal["kidney", "gel"]
Bits = Literal[8, 16]
Mask = npt.NDArray[np.uint8]
Image = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

# Grey levels of `Look` times this are those of the uint16 slices of the scans.
GREY_UNIT = 256
# Gel without an organ varies more slowly and more strongly than gel beside one, by this share of `Look.gel_sd`.
BARE_GEL_SLOW = 1.6
# A label ends this many voxels within the edge of the lumen, as the annotators' do; the finest lumen still has one.
LABEL_INSET = 0.25
FINE_LABEL_INSET = 0.35  # of a lumen whose radius is the finest drawn; from three times that on it is `LABEL_INSET`
FINEST_DRAWN = 1.15


@dataclass(frozen=True)
class PhantomSettings:
    """What a phantom is made from; the same settings give the same bytes.

    Attributes:
        shape_zyx: planes, rows, columns; each at least 1.
        kidney: whose grey levels, walls and noise: 1, 2 or 3.
        seed: 0 or more.
        voxel_size_um: the organ is the same size in µm whatever the voxel; 50 fits it to the plane.
        keep: the share of the vessel voxels that stays in the sparse labels, in (0, 1]; None for no sparse labels.
        content: "kidney", or "gel" for a volume of mounting gel alone.
        bits: of a voxel of the image; the published slices have 16 or 8.
    """

    shape_zyx: tuple[int, int, int]
    kidney: Kidney
    seed: int
    voxel_size_um: float = REFERENCE_UM
    keep: float | None = None
    content: Content = "kidney"
    bits: Bits = 16

    def __post_init__(self) -> None:
        if len(self.shape_zyx) != 3 or min(self.shape_zyx) < 1:
            raise ConfigError(f"shape: got {self.shape_zyx}, expected three numbers of 1 or more (Z, Y, X): 64,512,512")
        if self.kidney not in LOOKS:
            raise ConfigError(f"kidney: got {self.kidney}, expected one of {', '.join(map(str, LOOKS))}")
        if self.seed < 0:
            raise ConfigError(f"seed: got {self.seed}, expected 0 or more")
        if not 5 <= self.voxel_size_um <= 500:
            raise ConfigError(f"voxel size: got {self.voxel_size_um} µm, expected 5 to 500; the scans have 50")
        if self.keep is not None and not 0 < self.keep <= 1:
            raise ConfigError(
                f"keep: got {self.keep}, expected a share in (0, 1]; the sparse kidneys have 0.65 and 0.85"
            )
        if self.content not in PAINTERS:
            raise ConfigError(f"content: got {self.content!r}, expected one of {', '.join(PAINTERS)}")
        if self.bits not in (8, 16):
            raise ConfigError(f"bits: got {self.bits}, expected 8 or 16")


@dataclass(frozen=True)
class Phantom:
    """A volume and its truth; all arrays [Z, Y, X].

    Attributes:
        image: uint16, 8-bit grey levels of the scan (`look.py`) times 256; or uint8, those levels rounded down.
        labels: uint8 0/1, the lumen of every artery.
        veins: uint8 0/1, dark structures that are no arteries: veins and the collecting system. Disjoint from `labels`.
        sparse_labels: uint8 0/1, `labels` without some subtrees; None if not asked for.
    """

    image: Image
    labels: Mask
    veins: Mask
    sparse_labels: Mask | None


def make_phantom(settings: PhantomSettings) -> Phantom:
    """The phantom of these settings."""
    rng = np.random.default_rng([settings.seed, settings.kidney])
    return PAINTERS[settings.content](settings, LOOKS[settings.kidney], rng)


def _kidney(settings: PhantomSettings, look: Look, rng: np.random.Generator) -> Phantom:
    organ = place_organ(settings.shape_zyx[1:], look, rng)
    slab_depth = rng.uniform(-0.4, 0.4) * organ.semi_axes[2]
    frame = Frame(settings.shape_zyx, REFERENCE_UM / settings.voxel_size_um, np.array([slab_depth, 0.0, 0.0]))
    vessels = grow_vessels(organ, frame, look, rng)
    fields = organ_fields(organ, frame)
    arteries, veins, cavities = _drawn(vessels, fields, frame, rng)

    image = gel(frame, look, rng)
    add_splinters(image, frame, look, rng)
    paint_organ(image, fields, frame, look, rng)
    add_strands(image, fields, frame, look, rng)
    add_septa(image, fields, frame, look, rng)
    add_flaps(image, organ, fields, frame, look, rng)
    add_nodes(image, fields, frame, look, rng)
    add_specks(image, fields, frame, look, rng)
    paint_lumen(image, cavities, frame, look, depth=1.1)
    paint_wall(image, veins, fields, frame, look, height=0.12, thickest=4.0, rng=rng)
    paint_lumen(image, veins, frame, look, depth=1.0)
    add_clots(image, veins, frame, look, rng)
    paint_wall(image, arteries, fields, frame, look, height=1.0, thickest=9.0, rng=rng)
    paint_lumen(image, arteries, frame, look, depth=1.0)
    add_spots(image, fields, frame, look, rng)

    labels = _mask(arteries, frame)
    dark = _mask(veins, frame) | _mask(cavities, frame)
    # What an artery or its wall covers is no vein to see.
    covered = arteries.near.index[arteries.near.distance < 1.0]
    dark.reshape(-1)[covered] = 0
    sparse = None if settings.keep is None else _sparse(vessels, arteries, frame, settings.keep, rng)
    return Phantom(_scanned(image, frame, look, settings.bits, rng), labels, dark, sparse)


def _gel(settings: PhantomSettings, look: Look, rng: np.random.Generator) -> Phantom:
    frame = Frame(settings.shape_zyx, REFERENCE_UM / settings.voxel_size_um, np.zeros(3))
    image = gel(frame, look, rng, slow=BARE_GEL_SLOW)
    add_splinters(image, frame, look, rng)
    nothing = np.zeros(settings.shape_zyx, np.uint8)
    sparse = None if settings.keep is None else nothing.copy()
    return Phantom(_scanned(image, frame, look, settings.bits, rng), nothing, nothing.copy(), sparse)


PAINTERS = {"kidney": _kidney, "gel": _gel}


def _drawn(
    vessels: Vessels, fields: OrganFields, frame: Frame, rng: np.random.Generator
) -> tuple[Lumens, Lumens, Lumens]:
    """Arteries, veins and cavities as they meet the window, with uneven outlines."""
    uneven = cloud(frame.shape_zyx, pitch=15 * frame.scale, rng=rng).reshape(-1)
    below = fields.below_surface.reshape(-1)
    arteries, veins, cavities = vessels.arteries, vessels.veins, vessels.cavities
    return (
        _lumens(arteries, frame, uneven, ruggedness=0.10, reach=4 + np.minimum(2.2 * arteries.radii, 24)),
        _lumens(veins, frame, uneven, ruggedness=0.3, reach=3 + np.minimum(0.8 * veins.radii, 12)),
        _inside_organ(_lumens(cavities, frame, uneven, ruggedness=0.05, reach=2 + 0 * cavities.radii), below),
    )


def _lumens(tubes: Tubes, frame: Frame, uneven: Field, *, ruggedness: float, reach: npt.NDArray[np.float64]) -> Lumens:
    """Tubes with an outline that is off by `ruggedness` radii; `reach` is how far around them voxels are wanted."""
    near = near_tubes(tubes, frame, reach=reach, smallest_radius=FINEST_DRAWN)
    widest = np.zeros(int(tubes.branches.max(initial=0)) + 1, np.float32)
    np.maximum.at(widest, tubes.branches, tubes.radii.astype(np.float32))
    radius = widest[near.branch]
    shift = np.float32(frame.scale) * np.minimum(ruggedness * radius, 3.0) * np.clip(radius - 0.7, 0, 1)
    return Lumens(NearTubes(near.index, near.distance + shift * uneven[near.index], near.branch), radius)


def _inside_organ(lumens: Lumens, below: Field) -> Lumens:
    near = lumens.near
    inside = below[near.index] > 0
    return Lumens(near.where(inside), lumens.radius[inside])


def _mask(lumens: Lumens, frame: Frame) -> Mask:
    mask = np.zeros(frame.shape_zyx, np.uint8)
    mask.reshape(-1)[lumens.near.index[_is_labelled(lumens, frame)]] = 1
    return mask


def _is_labelled(lumens: Lumens, frame: Frame) -> npt.NDArray[np.bool_]:
    radius = np.maximum(lumens.radius * np.float32(frame.scale), FINEST_DRAWN) / FINEST_DRAWN
    inset = np.interp(radius, [1, 3], [FINE_LABEL_INSET, LABEL_INSET])
    return np.asarray(lumens.near.distance < -inset)


def _sparse(vessels: Vessels, arteries: Lumens, frame: Frame, keep: float, rng: np.random.Generator) -> Mask:
    near, lumen = arteries.near, _is_labelled(arteries, frame)
    index, branch = near.index[lumen], near.branch[lumen]
    at = np.column_stack(np.unravel_index(index, frame.shape_zyx))
    from_start = np.linalg.norm(at - frame.voxels_from_world(vessels.tree.starts)[branch], axis=1).astype(np.float32)
    mask = np.zeros(frame.shape_zyx, np.uint8)
    mask.reshape(-1)[index[kept_voxels(vessels.tree, branch, from_start, keep=keep, rng=rng)]] = 1
    return mask


def _scanned(image: Field, frame: Frame, look: Look, bits: Bits, rng: np.random.Generator) -> Image:
    """What the scan makes of the specimen: streaks, rings, field of view, blur, noise; in uint16 or uint8."""
    contrast = look.tissue - look.gel
    add_rings(image, frame, 0.02 * contrast, rng)
    if rng.random() < 0.4:
        add_streaks(image, frame, 0.6 * contrast, rng)
    noisy = add_noise(image, look, rng)
    if look.round_field:
        outside, ring = outside_field_of_view(frame, rng)
        noisy += np.float32(0.6 * look.gel_sd) * ring
        noisy += outside * (np.float32(look.fat) - noisy)
    levels = np.rint(noisy * np.float32(GREY_UNIT))
    image_16 = np.clip(levels, 0, np.iinfo(np.uint16).max).astype(np.uint16)
    levels_asked: Image = image_16 if bits == 16 else (image_16 >> 8).astype(np.uint8)
    return levels_asked
