"""A strongly typed TensorRT network from an ONNX file, or all that is wrong with the file."""

import re
from typing import Any

from sennet_engine.errors import ModelError
from sennet_engine.graph_ends import OVERFLOWED
from sennet_engine.tensorrt.log import BuildLog

INPUT, OUTPUT = "tiles", "probabilities"
# The first is written by our own export, the second by torch.
SOURCE_KEYS = ("sennet.source", "pkg.torch.onnx.stack_trace")
NOTHING_SAID = ("", "false")


def parsed_network(trt: Any, builder: Any, log: BuildLog, onnx: bytes, *, name: str) -> Any:
    """The network of the ONNX file, whose bytes are `onnx` and whose name is `name`.

    Raises:
        ModelError: the parser refuses it, with every node at fault, its operator and, where the file tells, the source
            line; or its ends are not uint8 tiles [B, 1, H, W], and at most which of them overflowed, uint8 [B].
    """
    refuse_external_data(onnx, name=name)
    network = builder.create_network(strong_typing(trt))
    parser = trt.OnnxParser(network, log.logger)
    if not parser.parse(onnx):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        is_onnx = all(error.code() != trt.ErrorCode.MODEL_DESERIALIZE_FAILED for error in errors)
        sources = source_by_node(onnx) if is_onnx else {}
        lines = [_explained(error, sources) for error in errors] or log.errors
        raise ModelError("\n  ".join([f"{name}: {len(lines)} problem(s) that the parser found", *lines]))
    _refuse_other_ends(trt, network, name=name)
    return network


def strong_typing(trt: Any) -> int:
    """The flags for `create_network`: STRONGLY_TYPED where the module has it; 10.x chooses precisions without it."""
    flags = getattr(trt, "NetworkDefinitionCreationFlag", None)
    flag = getattr(flags, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def source_by_node(onnx: bytes) -> dict[str, str]:
    """The source line of every node that has one in its metadata: `timm/models/maxxvit.py:312 in forward`.

    Where the package onnx is not installed nothing is known: it is needed for no more than that.
    """
    try:
        from onnx import ModelProto
    except ImportError:
        return {}
    sources = {}
    for node in ModelProto.FromString(onnx).graph.node:
        metadata = {entry.key: entry.value for entry in node.metadata_props}
        for key in SOURCE_KEYS:
            if metadata.get(key):
                sources[node.name] = _last_frame(metadata[key])
                break
    return sources


def named_with_source(text: str, onnx: bytes) -> str:
    """`text` with the source lines of the nodes that it names in quotes."""
    sources = source_by_node(onnx)
    found = [f"{name} comes from {sources[name]}" for name in re.findall(r"'([^']+)'", text) if name in sources]
    return "; ".join([text, *dict.fromkeys(found)])


def refuse_external_data(onnx: bytes, *, name: str) -> None:
    """Raise ModelError for a graph whose weights lie in other files: their sha256 would not be that of the engine."""
    # The field and the length of a protobuf string come before it.
    if b"\x0a\x08location" in onnx:
        raise ModelError(f"{name}: keeps weights in other files, expected all in one; export the model again")


def _explained(error: Any, sources: dict[str, str]) -> str:
    node = error.node_name() or f"node {error.node()}"
    operator = f" ({error.node_operator()})" if error.node_operator() else ""
    what = str(error.code()).rpartition(".")[2].lower().replace("_", " ")
    described = "" if error.desc() in NOTHING_SAID else f": {error.desc()}"
    source = f", from {sources[node]}" if node in sources else ""
    return f"{node}{operator}{source}: {what}{described}"


def _last_frame(trace: str) -> str:
    """The innermost frame of a stack trace as `file:line in function`, its path from the package on."""
    frames = re.findall(r'File "([^"]+)", line (\d+), in (\S+)', trace)
    if not frames:
        return trace.strip()
    path, line, function = frames[-1]
    parts = path.replace("\\", "/").split("/")
    start = parts.index("site-packages") + 1 if "site-packages" in parts else max(len(parts) - 3, 0)
    return f"{'/'.join(parts[start:])}:{line} in {function}"


def _refuse_other_ends(trt: Any, network: Any, *, name: str) -> None:
    ends = [network.get_input(i) for i in range(network.num_inputs)]
    ends += [network.get_output(i) for i in range(network.num_outputs)]
    got = [f"{end.name} {end.dtype.name} {tuple(end.shape)}" for end in ends]
    fits = (
        [end.name for end in ends] in ([INPUT, OUTPUT], [INPUT, OUTPUT, OVERFLOWED])
        and all(end.dtype == trt.DataType.UINT8 for end in ends)
        and all(len(end.shape) == 4 and end.shape[1] == 1 for end in ends[:2])
        and all(len(end.shape) == 1 for end in ends[2:])
    )
    if not fits:
        raise ModelError(
            f"{name}: got the ends {', '.join(got)}, expected {INPUT} UINT8 [B, 1, H, W] and {OUTPUT} UINT8 "
            f"[B, 1, H, W], and at most {OVERFLOWED} UINT8 [B] as well; export the model again with sennet-export"
        )
