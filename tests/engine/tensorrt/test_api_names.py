"""What the engine's code uses of TensorRT exists in the real package of TensorRT for RTX."""

import ast
import inspect
import re
from pathlib import Path

import pytest

from sennet_engine.tensorrt import contexts, ends, graphs, predictor
from sennet_engine.tensorrt.log import BuildLog

from ...doubles import recording_tensorrt as double
from ...doubles.tensorrt_bench import bench

trt = pytest.importorskip("tensorrt_rtx")
core_graph = pytest.importorskip("cuda.core.graph")

# Classes of the double, and what they stand for.
STANDS_FOR = {
    double.Engine: trt.ICudaEngine,
    double.ExecutionContext: trt.IExecutionContext,
    double.RuntimeConfig: trt.IRuntimeConfig,
    double.GraphBuilder: core_graph.GraphBuilder,
    double.Graph: core_graph.Graph,
}
ENUMS = (
    double.DataType, double.TensorIOMode, double.ExecutionContextAllocationStrategy,
    double.DynamicShapesKernelSpecializationStrategy,
)  # fmt: skip
# Of the double's own, for tests.
OF_THE_DOUBLE = {
    double.ExecutionContext: {"needed"},
    double.RuntimeConfig: {"strategy", "runtime_cache"},
}


def public(kind):
    """Names that callers can use."""
    return {name for name in vars(kind) if not name.startswith("_")} - OF_THE_DOUBLE.get(kind, set())


def parameters(method):
    """Of a real method: the names of each of its overloads, in order, as the package documents them."""
    text = re.sub(r"\[[^\]]*\]|<[^>]*>", "", method.__doc__)
    return [
        [one.split(":")[0].strip() for one in found.split(",")][1:]
        for found in re.findall(rf"{method.__name__}\(([^)*]+)\)", text)
    ]


@pytest.mark.parametrize("kind", STANDS_FOR, ids=lambda kind: kind.__name__)
def test_the_double_has_no_name_that_the_real_thing_has_not(kind):
    """A method that the predictor calls is one of the double's, so it is a real one."""
    assert public(kind)
    assert {name for name in public(kind) if not hasattr(STANDS_FOR[kind], name)} == set()


@pytest.mark.parametrize("kind", [double.Engine, double.ExecutionContext, double.RuntimeConfig])
def test_the_doubles_methods_take_what_the_real_ones_take(kind):
    """As many arguments, in the same order, under the same names where the real ones say them."""
    for name in public(kind):
        method = inspect.getattr_static(kind, name)
        if not inspect.isfunction(method):
            continue
        method = inspect.unwrap(method)
        own = list(inspect.signature(method).parameters)[1:]
        assert own in parameters(getattr(STANDS_FOR[kind], name)), name


@pytest.mark.parametrize("enum", ENUMS, ids=lambda enum: enum.__name__)
def test_members_of_enums_are_real(enum):
    """So is the severity of what is logged."""
    assert set(enum.__members__) <= set(getattr(trt, enum.__name__).__members__)
    assert set(double.ILogger.Severity.__members__) <= set(trt.ILogger.Severity.__members__)


def test_the_double_has_all_that_the_predictor_asks_for():
    """Every name that the code takes from the module, the engine, a context or a configuration is the double's."""
    asked = {"trt": set(), "engine": set(), "config": set(), "context": set(), "builder": set()}
    for module in (contexts, ends, graphs, predictor):
        for node in ast.walk(ast.parse(Path(module.__file__).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                owner = node.value
                name = owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", "").removeprefix("_")
                if name in asked:
                    asked[name].add(node.attr)
    has = {
        "trt": set(vars(bench().trt.module)), "engine": public(double.Engine), "config": public(double.RuntimeConfig),
        "context": public(double.ExecutionContext), "builder": public(double.GraphBuilder),
    }  # fmt: skip
    assert all(asked.values())
    unknown = {owner: names - has[owner] for owner, names in asked.items()}
    assert {owner: names for owner, names in unknown.items() if names - {"run", "close"}} == {}


def test_the_capture_mode_is_one_that_cuda_core_knows():
    """Its documentation lists them."""
    assert "`thread_local`" in core_graph.GraphBuilder.begin_building.__doc__


def test_the_log_is_one_that_the_real_product_takes():
    """What it says of bytes that are no engine ends up in the log, with or without a GPU."""
    log = BuildLog(trt)
    try:
        runtime = trt.Runtime(log.logger)
    except TypeError:  # what its binding makes of a runtime that there is not, for want of a driver
        assert log.errors
        return
    assert runtime.deserialize_cuda_engine(b"no engine") is None
    assert log.errors
