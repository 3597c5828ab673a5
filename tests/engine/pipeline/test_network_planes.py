"""What networks are shown of a slab: resized, padded, or the grey levels themselves."""

import numpy as np

from sennet_engine.pipeline.network_planes import NetworkPlanes
from sennet_engine.pipeline.resize import resized_grey
from sennet_engine.planning.layout import Layout, mirrored
from sennet_engine.planning.passes import PassPlan

GREY = np.random.default_rng(0).integers(0, 256, (3, 32, 48), np.uint8)


def shown(layout):
    """All planes of GREY as `layout` shows them."""
    one = PassPlan(model="a", name="a", scale=(1, 1), layouts=(layout,), flip="none", weight=1, batch=1)
    planes = NetworkPlanes([one], most_planes=3)
    planes.fill(GREY, {layout.plane_shape: range(3)})
    return planes.of(layout)


def test_planes_that_need_nothing_are_not_copied():
    """A layout of the planes' own size, without padding."""
    assert shown(Layout((32, 48), (32, 48), ())) is GREY


def test_reduced_planes_that_pad_back_to_the_volumes_size_are_reduced():
    """The padded shape alone does not tell whether planes have to be resized."""
    found = shown(Layout((31, 46), (32, 48), ()))
    assert (found == mirrored(resized_grey(GREY, (31, 46)), (32, 48))).all()
