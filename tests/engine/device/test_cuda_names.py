"""What the engine uses of cuda.core exists in the real package, and the double of it has nothing that it has not."""

import ast
import dataclasses
import inspect
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

import sennet_engine
from sennet_engine.device import cuda_driver
from sennet_engine.device.cuda_driver import CudaDriver
from sennet_engine.errors import MissingExtraError

from ...doubles.simulated_gpu import SimulatedGpu

core = pytest.importorskip("cuda.core")
graph = pytest.importorskip("cuda.core.graph")

ENGINE = Path(sennet_engine.__file__).parent
FILES = (
    "device/cuda.py", "device/cuda_driver.py", "device/cuda_stream.py", "gpu/host_calls.py",
    "gpu/onnxruntime_predictor.py", "tensorrt/contexts.py", "tensorrt/graphs.py",
)  # fmt: skip
# What variables and attributes of the engine's code hold, by name; and what is returned by calls.
HOLDS = {
    "core": core, "_utils": core._utils, "cuda_utils": core._utils.cuda_utils,
    "stream": core.Stream, "_stream": core.Stream, "_memory_stream": core.Stream,
    "place": core.Event, "_place": core.Event, "_known": core.Event, "ended": core.Event, "_last": core.Event,
    "builder": graph.GraphBuilder, "_graph": graph.Graph,
}  # fmt: skip
HOLDS_IN = {
    "device/cuda.py": {"device": core.Device, "memory": core.Buffer},
    "device/cuda_driver.py": {"device": core.Device, "_driver": core._utils.cuda_utils.driver},
}
RETURNS = {
    "make_current": core.Device, "Device": core.Device, "create_stream": core.Stream, "record": core.Event,
    "LegacyPinnedMemoryResource": core.LegacyPinnedMemoryResource, "allocate": core.Buffer,
    "from_handle": core.Buffer, "_view": core.Buffer, "_view_of": core.Buffer,
    "create_graph_builder": graph.GraphBuilder, "begin_building": graph.GraphBuilder,
    "end_building": graph.GraphBuilder, "complete": graph.Graph,
}  # fmt: skip


def parameters(called):
    """Of a function or a class of the real package, or of the double: a signature without annotations, without self."""
    if isinstance(called, type) and dataclasses.is_dataclass(called):
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        return inspect.Signature(
            [inspect.Parameter(one.name, kind, default=one.default) for one in dataclasses.fields(called)]
        )
    if called is core.LegacyPinnedMemoryResource:
        return inspect.Signature()  # it has no constructor of its own
    signature = inspect.signature(called)
    return signature.replace(
        parameters=[one for one in signature.parameters.values() if one.name not in ("self", "cls")]
    )


def used(source, holds):
    """(what, name, call or None) for each name that is used of cuda.core, in the source of a module."""

    def kind_of(expression):
        if isinstance(expression, ast.Call):
            return RETURNS.get(getattr(expression.func, "attr", None))
        return holds.get(getattr(expression, "attr", getattr(expression, "id", None)))

    tree = ast.parse(source)
    calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            kind = core.Buffer if node.attr == "from_handle" else kind_of(node.value)
            if kind is not None:
                yield kind, node.attr, calls.get(id(node))


def wrong(source, holds):
    """What a module uses of cuda.core and the real package does not have, or does not take."""
    found = []
    for kind, name, call in used(source, holds):
        if not hasattr(kind, name):
            found.append(f"{kind.__name__}.{name}")
        elif call is not None:
            try:
                parameters(getattr(kind, name)).bind(*call.args, **{one.arg: one.value for one in call.keywords})
            except TypeError as error:
                found.append(f"{kind.__name__}.{name}: {error}")
    return found


@pytest.mark.parametrize("name", FILES)
def test_what_the_engine_uses_of_cuda_core_is_there(name):
    """Every name, and every call with the parameters that it is given."""
    source, holds = (ENGINE / name).read_text(), HOLDS | HOLDS_IN.get(name, {})
    assert list(used(source, holds))
    assert wrong(source, holds) == []


def test_names_and_keywords_that_are_not_there_are_found():
    """So that the test above can fail."""
    source = """
stream.synchronize()
stream.record(event=None, options=driver.core.EventOptions(timing=True)).sync()
stream.record(when=1).wait()
driver.core.PinnedMemory()
driver.make_current().create_stream(options=None).wait()
core.Buffer.from_handle(1, 2, keep=3).copy_to(4)
builder.begin_building("thread_local").complete().launch()
"""
    found = {one.split(":")[0] for one in wrong(source, HOLDS)}
    assert found == {
        "Stream.synchronize", "Stream.record", "Stream.wait", "Event.wait", "Graph.launch", "Buffer.copy_to",
        "Buffer.from_handle", f"{core.__name__}.PinnedMemory", f"{core.__name__}.EventOptions",
    }  # fmt: skip


def invented(double, real, path="core"):
    """What a double has, and the real thing has not: public names, and the parameters of methods."""
    if dataclasses.is_dataclass(double):
        return not_taken(double, real, path)
    if isinstance(double, property):
        return [f"{path} is no property"] if callable(real) else []
    if callable(double) and not isinstance(double, type):
        return not_taken(double, real, path)
    found = []
    for name in vars(double):
        if name.startswith("_") and name not in ("_utils", "__sub__", "__new__"):
            continue
        within = f"{path}.{name}"
        if hasattr(real, name):
            found += invented(getattr(double, name), getattr(real, name), within)
        else:
            found.append(within)
    return found


def not_taken(double, real, path):
    """Parameters of a double's that the real function does not take under that name, at that place, by keyword only."""
    if path.endswith("__sub__"):
        return []  # an operator's; the real one says nothing of its parameters
    mine, theirs = parameters(double).parameters, parameters(real).parameters
    places = [one.name for one in theirs.values() if one.kind is one.POSITIONAL_OR_KEYWORD]
    found = []
    for place, one in enumerate(mine.values()):
        if one.name not in theirs:
            found.append(f"{path}({one.name})")
        elif one.kind is one.POSITIONAL_OR_KEYWORD and places[place : place + 1] != [one.name]:
            known = dataclasses.is_dataclass(double)  # whose fields are given by keyword
            found += [] if known else [f"{path}({one.name}), by its place"]
        elif theirs[one.name].default is one.empty and one.default is not one.empty:
            found.append(f"{path}({one.name}), or without")
    return found + [
        f"{path}() without {name}" for name, one in theirs.items() if one.default is one.empty and name not in mine
    ]


def test_the_double_of_cuda_core_has_nothing_that_cuda_core_has_not():
    """Code that runs on the double calls what is there."""
    assert invented(SimulatedGpu().core, core) == []


def test_what_is_invented_in_a_double_is_found():
    """A method, a property that is a method in truth, a field, parameters, one that must be given, a module's name."""

    class Stream:
        def synchronise(self):
            """Not there."""

        def wait(self, event):
            """By another name."""

        def record(self, options=None):
            """At another place."""

    class Event:
        @property
        def sync(self):
            """A method in truth."""

    class Device:
        def allocate(self, size, stream):
            """By keyword only in truth."""

    class Buffer:
        def fill(self, value, *, stream=None):
            """It must be given."""

    @dataclasses.dataclass
    class EventOptions:
        timing: bool = False

    double = SimpleNamespace(
        Stream=Stream, Event=Event, Device=Device, Buffer=Buffer, EventOptions=EventOptions, memory=SimpleNamespace()
    )
    assert invented(double, core) == [
        "core.Stream.synchronise", "core.Stream.wait(event)", "core.Stream.wait() without event_or_stream",
        "core.Stream.record(options), by its place", "core.Event.sync is no property",
        "core.Device.allocate(stream), by its place", "core.Buffer.fill(stream), or without",
        "core.EventOptions(timing)", "core.memory",
    ]  # fmt: skip


def test_what_is_not_public_in_cuda_core_is_there():
    """Its error, which the driver's calls raise, and the driver's own way to tell of memory."""
    inside = core._utils.cuda_utils
    assert issubclass(inside.CUDAError, Exception)
    assert inside.driver.cuMemGetInfo.__doc__.startswith("cuMemGetInfo()")
    assert int(inside.driver.CUresult.CUDA_SUCCESS) == 0


def test_the_versions_that_are_tested_are_those_that_are_asked_for():
    """By each of the extras: a new major version is not installed by itself, and not tested unseen."""
    major = int(core.__version__.split(".")[0])
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    asked = [one for extra in ("gpu", "rtx") for one in project["optional-dependencies"][extra] if "cuda-core" in one]
    assert [one.split(",<")[1] for one in asked] == [str(major + 1)] * 2
    assert str(major) == cuda_driver.CORE_MAJOR


@pytest.mark.parametrize("version", ["2.0.0", "0.7.0"])
def test_another_major_version_is_refused(version, monkeypatch):
    """Where another program has installed it; with the version, and what to install."""
    monkeypatch.setattr(core, "__version__", version)
    with pytest.raises(MissingExtraError, match=rf"cuda\.core {version}.*'sennet\[gpu\]'"):
        CudaDriver(0)
