"""Which product is opened, what it is asked for, and what is said where it cannot be."""

import sys
from types import SimpleNamespace

import pytest
import tensorrt_rtx

from sennet_engine.errors import ConfigError, MissingExtraError
from sennet_engine.tensorrt import products
from sennet_engine.tensorrt.build.compile import compiled_engine
from sennet_engine.tensorrt.build.settings import BuildSettings
from sennet_engine.tensorrt.build.timing_cache import open_timing_cache
from sennet_engine.tensorrt.products import open_product

from .conftest import convolutions


@pytest.mark.parametrize(
    ("target", "module", "extra"), [("rtx", "tensorrt_rtx", "rtx"), ("tensorrt", "tensorrt", "gpu")]
)
def test_a_product_that_is_not_installed_names_its_extra(monkeypatch, target, module, extra):
    """The command that installs it is in the message."""
    monkeypatch.setattr(products, "present_compute_capability", lambda: "8.6")
    monkeypatch.setitem(sys.modules, products.PRODUCTS[target].module, None)
    with pytest.raises(MissingExtraError, match=rf"pip install 'sennet\[{extra}\]'"):
        open_product(target)


def test_tensorrt_without_a_gpu_points_to_rtx(monkeypatch):
    """It is refused before anything of it is needed, by a message that names the target that works."""
    monkeypatch.setattr(products, "present_compute_capability", lambda: None)
    with pytest.raises(ConfigError, match="--target rtx"):
        open_product("tensorrt")


def test_tensorrt_builds_for_the_gpu_that_is_there(monkeypatch):
    """For no other, and for that one without being asked."""
    monkeypatch.setattr(products, "present_compute_capability", lambda: "9.0")
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__version__="11.4.0"))
    product = open_product("tensorrt")
    assert (product.version, product.resolved(())) == ("11.4.0", ("9.0",))
    with pytest.raises(ConfigError, match=r"got 8.6, expected some of 9.0"):
        product.resolved(("8.6",))


class OtherModule:
    """tensorrt_rtx itself, except for some attributes; remembers with which flags networks were created."""

    def __init__(self, **other):
        self.flags = []
        self._other = {"Builder": self._builder, **other}

    def __getattr__(self, name):
        return self._other[name] if name in self._other else getattr(tensorrt_rtx, name)

    def _builder(self, logger):
        builder = tensorrt_rtx.Builder(logger)

        def create_network(flags):
            self.flags.append(flags)
            return builder.create_network(flags)

        return SimpleNamespace(
            create_network=create_network,
            create_builder_config=builder.create_builder_config,
            create_optimization_profile=builder.create_optimization_profile,
            build_serialized_network=builder.build_serialized_network,
        )


@pytest.mark.parametrize(
    ("other", "flags"),
    [
        ({"NetworkDefinitionCreationFlag": SimpleNamespace(EXPLICIT_BATCH=0, STRONGLY_TYPED=0)}, 1),
        ({"NetworkDefinitionCreationFlag": SimpleNamespace()}, 0),
        ({"NetworkDefinitionCreationFlag": None}, 0),
    ],
)
def test_strong_typing_is_asked_for_where_it_can_be(other, flags):
    """Where the module has the flag, as 10.x does, the network is created with it; where it is gone, without."""
    module = OtherModule(**other)
    product = products.Product(products.PRODUCTS["rtx"], module, "0")
    engine, built = compiled_engine(
        product, convolutions(), name="model.fp16.onnx", capabilities=("8.6",),
        settings=BuildSettings(precision="fp16", sides=(64,)), on_progress=lambda *_: None,
    )  # fmt: skip
    assert module.flags == [flags]
    assert engine
    assert built.share_by_precision == {"fp16": 1.0}


class BuilderWithTimings:
    """What TensorRT's builder configuration has for timings and RTX has not. Takes the first content, reads all."""

    def __init__(self, takes):
        self._takes, self.used = takes, None

    def create_timing_cache(self, content):
        return content if content in (b"", *self._takes) else None

    def set_timing_cache(self, cache, ignore_mismatch):
        assert not ignore_mismatch
        self.used = cache if cache in (b"", self._takes[0]) else self.used
        return cache in (b"", self._takes[0])

    def get_timing_cache(self):
        return SimpleNamespace(serialize=lambda: self.used + b" and new")


@pytest.mark.parametrize(
    ("kept", "used", "warns"),
    [(None, b"", False), (b"good", b"good", False), (b"another GPU's", b"", True), (b"damaged", b"", True)],
)
def test_timings_are_kept_from_build_to_build(tmp_path, kept, used, warns):
    """A cache that fits is used and grows; one that is damaged or foreign is named in a warning and replaced."""
    path = tmp_path / "timings"
    if kept is not None:
        path.write_bytes(kept)
    config = BuilderWithTimings([b"good", b"another GPU's"])
    product = products.Product(products.PRODUCTS["tensorrt"], None, "11")
    cache = open_timing_cache(config, path, product=product)
    assert config.used == used
    assert bool(cache.warnings) == warns
    cache.save()
    assert path.read_bytes() == used + b" and new"
    assert list(tmp_path.iterdir()) == [path]
