"""How the scans of three kidneys look: grey levels, walls and noise in 8-bit units, and the shape of what is seen.

The levels were measured on slices of HiP-CT scans. Kidney 2 has no public slice: what its published measurements leave
open follows from the ratio of contrasts of the others.
"""

from dataclasses import dataclass
from typing import Literal

Kidney = Literal[1, 2, 3]


@dataclass(frozen=True)
class Look:
    """What makes one kidney's scan look different from another's; lengths in units of 50 µm.

    Attributes:
        tissue, gel, fat: mean levels of parenchyma, mounting gel, and the fat of the renal sinus.
        lumen_large, lumen_small: levels within wide and thin vessels.
        wall_large, wall_small: how far the wall rises above tissue for wide and thin arteries, before blur.
        decay_large, decay_small: length over which the brightness beside wide and thin arteries falls to 1/e.
        noise_sd: standard deviation of plain tissue after a high-pass of sigma 6.
        texture_share: share of that variance which is fine tissue texture rather than noise of the detector.
        slow_sd: slow variation of tissue (cortex, medulla, shading).
        gel_sd: variation of the gel between its pieces.
        rim: how far the capsule rises above tissue.
        glow: how bright it is just outside of the surface, as a share of the step from the gel up to tissue.
        bend: how strongly the organ is bent around its hilum, 0 for an ellipsoid.
        sinus: size of the sinus, as a share of the organ's semi-axes.
        fat_share: how often fat surrounds the hilum.
        spacing: distance between the ends of the finest arteries.
        cavity: radius of the finest calyces, as a share of the organ's width.
        round_field: whether the corners lie outside the scan's circular field of view.
    """

    tissue: float
    gel: float
    fat: float
    lumen_large: float
    lumen_small: float
    wall_large: float
    wall_small: float
    decay_large: float
    decay_small: float
    noise_sd: float
    texture_share: float
    slow_sd: float
    gel_sd: float
    rim: float
    glow: float
    bend: float
    sinus: float
    fat_share: float
    spacing: float
    cavity: float
    round_field: bool


LOOKS: dict[Kidney, Look] = {
    1: Look(
        tissue=102.5, gel=78.2, fat=77.0, lumen_large=89.5, lumen_small=91.5, wall_large=11.0, wall_small=7.0,
        decay_large=1.0, decay_small=0.55, noise_sd=1.5, texture_share=0.20, slow_sd=4.0, gel_sd=1.1, rim=8.0,
        glow=0.36, bend=0.12, sinus=0.22, fat_share=0.4, spacing=54.0, cavity=0.016, round_field=False,
    ),
    2: Look(
        tissue=144.5, gel=116.0, fat=114.0, lumen_large=129.0, lumen_small=125.0, wall_large=22.0, wall_small=18.0,
        decay_large=1.4, decay_small=0.8, noise_sd=2.45, texture_share=0.02, slow_sd=3.5, gel_sd=1.4, rim=10.0,
        glow=0.36, bend=0.2, sinus=0.30, fat_share=0.6, spacing=54.0, cavity=0.020, round_field=False,
    ),
    3: Look(
        tissue=81.9, gel=75.9, fat=75.0, lumen_large=78.0, lumen_small=77.9, wall_large=3.7, wall_small=5.2,
        decay_large=2.0, decay_small=1.0, noise_sd=0.70, texture_share=0.18, slow_sd=0.95, gel_sd=0.3, rim=1.3,
        glow=0.36, bend=0.38, sinus=0.42, fat_share=1.0, spacing=70.0, cavity=0.028, round_field=True,
    ),
}  # fmt: skip
