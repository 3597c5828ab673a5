"""The contestants by name, in the order of the table; the first is the one that the others are compared with."""

from sennet_bench.peers.contestant import Contestant
from sennet_engine.errors import ConfigError

ENGINE, ENGINE_INT8 = "sennet", "sennet-int8"
TORCH = ("torch", "segmentation_models_pytorch", "timm")
IN_ENGINE, IN_LOOP, IN_MONAI, IN_NNUNET, IN_ONNXRUNTIME, IN_OPENVINO = (
    f"sennet_bench.peers.{name}" for name in ("engine", "torch_loop", "monai", "nnunet", "onnxruntime", "openvino")
)

CONTESTANTS: dict[str, Contestant] = {
    one.name: one
    for one in (
        Contestant(
            ENGINE, "sennet, fp32", IN_ENGINE, remembers=True,
            does="sennet-infer in float32, with its survey, preview, audit and summary.",
        ),
        Contestant(
            ENGINE_INT8, "sennet, int8", IN_ENGINE, options={"precision": "int8"}, remembers=True,
            does="sennet-infer in int8, with its survey, preview, audit and summary.",
        ),
        Contestant(
            "torch-loop", "torch loop, 512 at stride 384", IN_LOOP, TORCH,
            does="Tiles of 512 at a stride of 384, one at a time, and the mean where they overlap.",
        ),
        Contestant(
            "torch-compile", "torch.compile, 512 at stride 384", IN_LOOP, TORCH, {"compiled": True},
            compiles=True, remembers=True,
            does="The torch loop with a network that torch.compile has compiled for the shape of its tiles.",
        ),
        Contestant(
            "torch-best", "torch at its best: torch.compile, channels last, whole planes", IN_LOOP, TORCH,
            {"whole_planes": True, "channels_last": True, "compiled": True}, compiles=True, remembers=True,
            does="Planes padded to the network's stride, one at a time, through a compiled network with weights in the "
            "memory format channels last.",
        ),
        Contestant(
            "torch-bfloat16", "torch at its best in bfloat16: torch.compile, channels last, whole planes", IN_LOOP,
            TORCH, {"whole_planes": True, "channels_last": True, "compiled": True, "bfloat16": True},
            compiles=True, remembers=True,
            does="The same under torch.autocast in bfloat16.",
        ),
        Contestant(
            "monai-0.5", "MONAI SlidingWindowInferer, overlap 0.5", IN_MONAI, (*TORCH, "monai"), {"overlap": 0.5},
            does="Windows of 512 that overlap by a half, one at a time, weighted by a Gaussian.",
        ),
        Contestant(
            "monai-0.25", "MONAI SlidingWindowInferer, overlap 0.25", IN_MONAI, (*TORCH, "monai"), {"overlap": 0.25},
            does="Windows of 512 that overlap by a quarter, one at a time, weighted by a Gaussian.",
        ),
        Contestant(
            "monai-best", "MONAI at its best: torch.compile, channels last, the plane as one window", IN_MONAI,
            (*TORCH, "monai"),
            {"overlap": 0.0, "mode": "constant", "whole_planes": True, "channels_last": True, "compiled": True},
            compiles=True, remembers=True,
            does="DivisiblePad to the network's stride, then SlidingWindowInferer with a window as large as the plane, "
            "through a compiled network with weights in the memory format channels last.",
        ),
        Contestant(
            "nnunet", "nnU-Net predictor, step 0.5", IN_NNUNET, (*TORCH, "nnunetv2"),
            does="nnUNetPredictor's sliding window with patches of 512 at half a patch, without mirroring; neither its "
            "preprocessing nor its export is timed.",
        ),
        Contestant(
            "nnunet-best", "nnU-Net at its best: torch.compile, step 0.75", IN_NNUNET, (*TORCH, "nnunetv2"),
            {"step": 0.75, "compiled": True}, compiles=True, remembers=True,
            does="The same at three quarters of a patch, through a compiled network, as nnUNet_compile asks for.",
        ),
        Contestant(
            "onnxruntime", "onnxruntime bare, 512 at stride 384", IN_ONNXRUNTIME, ("onnxruntime",),
            does="An InferenceSession of the bundle's ONNX file in float32; tiles of 512 at a stride of 384, one at a "
            "time, and the mean where they overlap.",
        ),
        Contestant(
            "onnxruntime-best", "onnxruntime at its best: whole planes", IN_ONNXRUNTIME, ("onnxruntime",),
            {"whole_planes": True},
            does="The same session; planes padded to the network's stride, one at a time.",
        ),
        Contestant(
            "openvino", "openvino bare, 512 at stride 384", IN_OPENVINO, ("openvino",),
            does="compile_model of the bundle's ONNX file with the hint LATENCY; tiles of 512 at a stride of 384, one "
            "at a time, and the mean where they overlap. Computes in bfloat16 where the processor has it.",
        ),
        Contestant(
            "openvino-float32", "openvino at its best in float32: whole planes", IN_OPENVINO, ("openvino",),
            {"whole_planes": True, "settings": {"INFERENCE_PRECISION_HINT": "f32"}},
            does="The same with planes padded to the network's stride, and in float32 on any processor.",
        ),
        Contestant(
            "openvino-best", "openvino at its best: whole planes, its own choice of precision", IN_OPENVINO,
            ("openvino",), {"whole_planes": True},
            does="The same in the precision that it chooses: bfloat16 where the processor has it.",
        ),
        Contestant(
            "openvino-throughput", "openvino, hint THROUGHPUT: whole planes, its own choice of precision", IN_OPENVINO,
            ("openvino",), {"whole_planes": True, "hint": "THROUGHPUT"},
            does="The same with the hint THROUGHPUT, and all planes through an AsyncInferQueue.",
        ),
    )
}  # fmt: skip
# Those of a table with few rows, the most telling first: of each tool what people write, and its best.
SHORT = (
    ENGINE, ENGINE_INT8, "openvino-best", "onnxruntime-best", "monai-0.5", "monai-best", "torch-loop", "torch-bfloat16",
    "nnunet-best", "nnunet", "torch-best", "monai-0.25",
)  # fmt: skip


def chosen_contestants(names: list[str]) -> list[Contestant]:
    """The engine and those of `names`, in the order of the table; without names all.

    Raises:
        ConfigError: a name that is not known.
    """
    if unknown := sorted(set(names) - set(CONTESTANTS)):
        raise ConfigError(f"--peer {', '.join(unknown)}: expected some of {', '.join(CONTESTANTS)}")
    return [one for name, one in CONTESTANTS.items() if not names or name in (*names, ENGINE)]
