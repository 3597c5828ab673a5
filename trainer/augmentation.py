"""The augmentation of the third-place solution, in its order, drawn from a given random generator.

The order and the probabilities are those of the released code of that solution; see `AugmentationSettings`. Strengths
that it leaves to its library are set here, so that vessels of one pixel survive them. Crops come in larger than they
leave, so that a shrunken one shows what lies around it and not its own mirror image.
"""

import math
import os
import random
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from sennet_trainer.augmentation_settings import AugmentationSettings

UInt8 = npt.NDArray[np.uint8]


class Augmentation:
    """Changes a crop and its labels together. Equal generators give equal results.

    Args:
        side: of the crop that comes out, in pixels.
        voxel_size_um: of the volume that the crop comes from; with a target it decides the magnification.

    Attributes:
        cut_side: of the crop that goes in: enough for the lowest magnification, the centres being the same.
    """

    def __init__(self, settings: AugmentationSettings, *, side: int, voxel_size_um: float) -> None:
        scale = settings.scale_for(voxel_size_um)
        warped = settings.shift_scale_rotate > 0 or settings.target_voxel_size_um is not None
        self.cut_side = _cut_side(side, scale[0]) if warped else side
        self._noise = settings.noise
        self._transforms = _transforms_from(settings, side=side, scale=scale)

    def __call__(self, grey: UInt8, labels: UInt8, generator: np.random.Generator) -> tuple[UInt8, UInt8]:
        """The changed uint8 [side, side] grey levels and 0/1 labels of crops [cut_side, cut_side]."""
        # One generator is handed to all transforms: seeding them through `Compose` would give each the same seed,
        # and a horizontal flip would always come with a vertical one.
        self._transforms.set_random_state(generator, random.Random(int(generator.integers(2**63))))
        changed = self._transforms(image=grey, mask=labels)
        return self._with_noise(changed["image"], generator), changed["mask"]

    def _with_noise(self, grey: UInt8, generator: np.random.Generator) -> UInt8:
        sigma = self._noise * generator.random() * generator.random() * float(grey.std())
        if sigma == 0:
            return np.ascontiguousarray(grey)
        noisy = grey + generator.normal(0, sigma, grey.shape)
        return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def _cut_side(side: int, lowest_scale: float) -> int:
    """The margin is the same on both sides, so that a pixel of the middle stays the middle."""
    return side + 2 * max(0, math.ceil((side / lowest_scale - side) / 2))


def _transforms_from(settings: AugmentationSettings, *, side: int, scale: tuple[float, float]) -> Any:
    # The library asks PyPI for its newest version while it is imported, unless told not to.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations as A

    border = cv2.BORDER_REFLECT_101
    return A.Compose(
        [
            A.HorizontalFlip(p=settings.flip),
            A.VerticalFlip(p=settings.flip),
            A.RandomRotate90(p=settings.flip),
            _magnified(settings, side=side, scale=scale),
            A.CenterCrop(side, side),
            A.OneOf(
                [A.GaussianBlur(), A.MedianBlur((3, 5)), A.MotionBlur((3, 5)), A.GaussNoise((0.02, 0.1))],
                p=settings.blur_or_noise,
            ),
            A.RandomBrightnessContrast(0.2, 0.2, p=settings.brightness_contrast),
            A.RandomGamma((80, 120), p=settings.gamma),
            A.OneOf(
                [
                    A.ElasticTransform(alpha=60, sigma=8, border_mode=border),
                    A.GridDistortion(num_steps=5, distort_limit=0.3, border_mode=border),
                    A.OpticalDistortion(distort_limit=0.3, border_mode=border),
                ],
                p=settings.distortion,
            ),
            A.OneOf([A.Sharpen(), A.CLAHE()], p=settings.sharpen_or_clahe),
        ],
        # Two warps follow each other. Linear ones, cut at half, erase a quarter of the vessels of a pixel or two.
        mask_interpolation=cv2.INTER_NEAREST,
    )


def _magnified(settings: AugmentationSettings, *, side: int, scale: tuple[float, float]) -> Any:
    """A shift, a magnification and a rotation. With a target voxel size, crops without them are magnified as well."""
    import albumentations as A

    border, reach = cv2.BORDER_REFLECT_101, round(settings.shift * side)
    moved = A.Affine(
        scale=scale,
        keep_ratio=True,
        translate_px={"x": (-reach, reach), "y": (-reach, reach)},
        rotate=(-settings.rotate, settings.rotate),
        border_mode=border,
        p=settings.shift_scale_rotate,
    )
    if settings.target_voxel_size_um is None:
        return moved
    centre = sum(scale) / 2
    unmoved = A.Affine(scale=(centre, centre), border_mode=border, p=1 - settings.shift_scale_rotate)
    return A.OneOf([moved, unmoved], p=1.0)
