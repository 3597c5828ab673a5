"""The ways to compute a mask that are compared, and how near to the reference each has to come."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limit:
    """What is demanded of a mask beside that of onnxruntime on the processors in fp32.

    Attributes:
        differing_share: at most so many voxels differ, as a share of the reference's vessel voxels.
        dice_with_reference: at least that surface Dice at tolerance 0.
        truth_loss: surface Dice against the truth may be so much below the reference's, not more.
        why: for people.
    """

    differing_share: float
    dice_with_reference: float
    truth_loss: float
    why: str


# OpenVINO beside onnxruntime, both on processors, differs in none of 24,731 vessel voxels of such a phantom; a fused
# multiply-add may move a probability by a grey level across the threshold.
FP32 = Limit(
    0.001, 0.999, 0.002,
    "the same float32 network summed in another order: a probability moves by one grey level at most, and only voxels "
    "whose probability lies at the threshold change sides",
)  # fmt: skip
# Weights rounded to half, computed in float32 on processors, change 0.13 % (surface Dice 0.9996); here activations are
# rounded too.
FP16 = Limit(
    0.01, 0.995, 0.005,
    "weights and activations have 11 bits: rounding the weights alone changes 0.13 % of the vessel voxels and leaves a "
    "surface Dice of 0.9996; a wrong channel, offset or stride costs far more than this limit",
)  # fmt: skip


@dataclass(frozen=True)
class Way:
    """One way to compute a mask by `sennet-infer`.

    Attributes:
        key: of its step: `tensorrt-fp16`.
        package: the distribution that it needs.
        options: of the command.
        optional: the check passes where the package is not installed.
    """

    key: str
    title: str
    package: str
    options: tuple[str, ...]
    limit: Limit
    optional: bool = False


def _on_gpu(key: str, title: str, runtime: str, precision: str, package: str, *, optional: bool = False) -> Way:
    options = ("--device", "cuda", "--runtime", runtime, "--precision", precision)
    return Way(key, title, package, options, FP16 if precision == "fp16" else FP32, optional)


REFERENCE_KEY, REFERENCE_TITLE = "reference", "onnxruntime fp32 on the processors"
REFERENCE_OPTIONS = ("--device", "cpu", "--runtime", "onnxruntime", "--precision", "fp32")
WAYS = (
    _on_gpu("tensorrt-fp16", "TensorRT fp16", "tensorrt", "fp16", "tensorrt"),
    _on_gpu("tensorrt-fp32", "TensorRT fp32", "tensorrt", "fp32", "tensorrt"),
    _on_gpu("rtx-fp16", "TensorRT for RTX fp16", "tensorrt-rtx", "fp16", "tensorrt-rtx", optional=True),
    _on_gpu("onnxruntime-cuda", "onnxruntime CUDA fp32", "onnxruntime-cuda", "fp32", "onnxruntime-gpu"),
    # It links one major version of TensorRT, which need not be the one that is installed.
    _on_gpu(
        "onnxruntime-tensorrt", "onnxruntime TensorRT fp32", "onnxruntime-tensorrt", "fp32", "onnxruntime-gpu",
        optional=True,
    ),
)  # fmt: skip
