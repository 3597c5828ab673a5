"""`summary.json`: what was done, with what, how long it took and what came out."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sennet_engine.volumes.volume import VoxelSize

SUMMARY_NAME = "summary.json"


@dataclass
class Counts:
    """What adds up over the slabs."""

    vessel_voxels: int = 0
    stage_seconds: dict[str, float] = field(default_factory=dict)

    def add(self, stage_seconds: dict[str, float], vessel_voxels: int) -> None:
        """Add one slab's figures."""
        self.vessel_voxels += vessel_voxels
        for stage, seconds in stage_seconds.items():
            self.stage_seconds[stage] = self.stage_seconds.get(stage, 0.0) + seconds


@dataclass(frozen=True)
class Summary:
    """The facts of one finished run; times in seconds, `window` in the volume's grey levels, `tile` in pixels."""

    input: str
    output: str
    shape_zyx: tuple[int, int, int]
    dtype: str
    voxel_size_um: VoxelSize | None
    window: tuple[float, float]
    model: str
    model_files: dict[str, str]
    runtime: str
    precision: str
    threads: int
    tile: int
    halo: int
    batch: int
    slab_planes: int
    tiles: int
    threshold: float
    vessel_voxels: int
    voxels: int
    stage_seconds: dict[str, float]
    seconds: float
    warnings: list[str]
    versions: dict[str, str]

    def write(self, folder: Path) -> None:
        """Write `summary.json` into `folder`."""
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False)
        # A file name may hold bytes that are no UTF-8; escaped they are still JSON.
        (folder / SUMMARY_NAME).write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
