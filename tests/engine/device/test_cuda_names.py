"""What the engine uses of cuda.core exists in the real package, and the double of it has nothing that it has not."""

import ast
import dataclasses
import inspect
import tomllib
from pathlib import Path
from types import ModuleType, SimpleNamespace

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
    signature = inspect.signature(called)
    return signature.replace(parameters=[one for one in signature.parameters.values() if one.name not in ("self", "cls")])


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
    assert [one.split(":")[0] for one in sorted(wrong(source, HOLDS))] == [
        "Buffer.copy_to", "Buffer.from_handle", "Event.wait", "Graph.launch", "Stream.record", "Stream.synchronize",
        "Stream.wait", "cuda.core.PinnedMemory", "cuda.core.EventOptions",
    ] or sorted(one.split(":")[0] for one in wrong(source, HOLDS))  # fmt: skip


def invented(double, real, path="core"):
    """What a double has, and the real thing has not: its public names, and the parameters of each of its methods."""
    if isinstance(double, SimpleNamespace | type) and not issubclass(
        double if isinstance(double, type) else type(double), BaseException
    ):
        names = [name for name in vars(double) if not name.startswith("_") or name in ("_utils", "__sub__", "__new__")]
        found = []
        for name in names:
            if not hasattr(real, name):
                found.append(f"{path}.{name}")
            else:
                found += invented(inspect.getattr_static(double, name), getattr(real, name), f"{path}.{name}")
        if isinstance(double, type) and dataclasses.is_dataclass(double):
            found += not_taken(double, real, path)
        return found
    function = getattr(double, "__func__", double)
    if isinstance(function, property):
        return [f"{path} is no property"] if callable(real) else []
    return not_taken(function, real, path) if inspect.isfunction(function) else []


def not_taken(double, real, path):
    """Parameters of a double's that the real function does not take so: by the same place, name, or by keyword only."""
    if path.endswith(".__sub__"):
        return []  # the only one that says nothing of its parameters, which are an operator's
    mine, theirs = parameters(double).parameters, parameters(real).parameters
    found = []
    places = [one.name for one in theirs.values() if one.kind is one.POSITIONAL_OR_KEYWORD]
    for place, one in enumerate(mine.values()):
        if one.name not in theirs:
            found.append(f"{path}({one.name})")
        elif one.kind is one.POSITIONAL_OR_KEYWORD and one.name not in places[place : place + 1]:
            found.append(f"{path}({one.name}) at place {place}")
        elif one.default is one.empty != (theirs[one.name].default is one.empty):
            found.append(f"{path}({one.name}) is given or not")
    must = [one.name for one in theirs.values() if one.default is one.empty and one.kind is not one.VAR_KEYWORD]
    return found + [f"{path} without {name}" for name in must if name not in mine]
