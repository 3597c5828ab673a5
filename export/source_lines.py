"""Which source line a node is from: kept in one short entry a node, without the paths of the machine."""

import ast
import re
from pathlib import Path

import onnx

import sennet_engine
import sennet_export
import sennet_trainer

SOURCE = "sennet.source"
"""The key of a node's metadata: `timm/layers/norm_act.py:136 in forward (network.encoder.model.bn1)`."""

TRACE, SCOPES = "pkg.torch.onnx.stack_trace", "pkg.torch.onnx.name_scopes"
FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\S+)')
INSTALLED = re.compile(r".*/(?:site|dist)-packages/")
# Editable installs: the folder has another name than the package.
PACKAGES = {
    str(Path(str(package.__file__)).parent): package.__name__
    for package in (sennet_engine, sennet_trainer, sennet_export)
}
OUTER = "segmenter"


def stripped(model: onnx.ModelProto) -> onnx.ModelProto:
    """Delete, in place, what the exporter notes about itself and its machine, and inferred shapes; returns `model`.

    Of a node's stack trace the innermost line outside of torch stays, as SOURCE.
    """
    for node in model.graph.node:
        source = _source_of(node)
        del node.metadata_props[:]
        node.ClearField("doc_string")
        if source is not None:
            node.metadata_props.add(key=SOURCE, value=source)
    graph = model.graph
    for part in (model, graph, *graph.initializer, *graph.input, *graph.output):
        del part.metadata_props[:]
        part.ClearField("doc_string")
    del graph.value_info[:]
    return model


def source_lines(model: onnx.ModelProto) -> dict[str, str]:
    """The source line of every node that has one, by the node's name."""
    return {node.name: entry.value for node in model.graph.node for entry in node.metadata_props if entry.key == SOURCE}


def innermost_line(stack_trace: str) -> str | None:
    """`FILE:LINE in FUNCTION` of the innermost frame outside of torch, with a path from the package on."""
    frames = [(_short(path), line, function) for path, line, function in FRAME.findall(stack_trace)]
    own = [frame for frame in frames if not frame[0].startswith("torch/")] or frames
    return "{}:{} in {}".format(*own[-1]) if own else None


def _source_of(node: onnx.NodeProto) -> str | None:
    notes: dict[str, str] = {entry.key: entry.value for entry in node.metadata_props}
    if SOURCE in notes:
        return notes[SOURCE]
    line = innermost_line(notes.get(TRACE, ""))
    module = _module(notes.get(SCOPES, ""))
    return f"{line} ({module})" if line and module else line


def _module(scopes: str) -> str | None:
    """The innermost module of the exporter's list of scopes, whose last entry is the node itself."""
    try:
        names = [str(name) for name in ast.literal_eval(scopes)]
    except (ValueError, SyntaxError):
        return None
    return names[-2].removeprefix(OUTER).removeprefix(".") or None if len(names) > 1 else None


def _short(path: str) -> str:
    if INSTALLED.match(path):
        return INSTALLED.sub("", path)
    for folder, package in PACKAGES.items():
        if path.startswith(f"{folder}/"):
            return package + path.removeprefix(folder)
    return Path(path).name
