"""The contestants by name, in the order of the table; the first is the one that the others are compared with."""

from sennet_bench.peers.contestant import Contestant
from sennet_engine.errors import ConfigError

ENGINE, ENGINE_INT8 = "sennet", "sennet-int8"
TORCH = ("torch", "segmentation_models_pytorch", "timm")

CONTESTANTS: dict[str, Contestant] = {
    one.name: one
    for one in (
        Contestant(ENGINE, "sennet, fp32", "sennet_bench.peers.engine", remembers=True),
        Contestant(
            ENGINE_INT8, "sennet, int8", "sennet_bench.peers.engine", options={"precision": "int8"}, remembers=True
        ),
        Contestant("torch-loop", "torch loop, 512 at stride 384", "sennet_bench.peers.torch_loop", TORCH),
        Contestant(
            "monai-0.5", "MONAI SlidingWindowInferer, overlap 0.5", "sennet_bench.peers.monai", (*TORCH, "monai"),
            {"overlap": 0.5},
        ),
        Contestant(
            "monai-0.25", "MONAI SlidingWindowInferer, overlap 0.25", "sennet_bench.peers.monai", (*TORCH, "monai"),
            {"overlap": 0.25},
        ),
        Contestant("nnunet", "nnU-Net predictor, step 0.5", "sennet_bench.peers.nnunet", (*TORCH, "nnunetv2")),
    )
}  # fmt: skip


def chosen_contestants(names: list[str]) -> list[Contestant]:
    """The engine and those of `names`, in the order of the table; without names all.

    Raises:
        ConfigError: a name that is not known.
    """
    if unknown := sorted(set(names) - set(CONTESTANTS)):
        raise ConfigError(f"--peer {', '.join(unknown)}: expected some of {', '.join(CONTESTANTS)}")
    return [one for name, one in CONTESTANTS.items() if not names or name in (*names, ENGINE)]
