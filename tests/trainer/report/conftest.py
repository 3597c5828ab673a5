"""Runs as the stages of a recipe leave them, written by hand, and a reader of the page."""

import hashlib
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sennet_trainer.checkpoint import save_tensors
from sennet_trainer.curve import write_curve
from sennet_trainer.history import EpochRow, write_metrics
from sennet_trainer.prediction.evaluation import Evaluation
from sennet_trainer.prediction.label_merge import LabelFile
from sennet_trainer.prediction.pseudo_labels import PseudoLabels
from sennet_trainer.prediction.result_file import NetworkName, write_result
from sennet_trainer.prediction.sweep import SweepRow
from sennet_trainer.prediction.threshold_table import ThresholdRow
from sennet_trainer.recipe.record import StageRecord, write_stage
from sennet_trainer.report.page import write_report

STAGES = ["dense", "labels", "resumed", "before", "after", "later"]
# Elements that have no end.
VOID = {"meta", "img", "br", "link"}


class Page(HTMLParser):
    """What a browser would find in a page: its text, links and ids; and whether every element is closed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.html = path.read_text(encoding="utf-8")
        self.links: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.pictures: list[dict[str, str | None]] = []
        self.charts: list[str] = []
        self._open: list[str] = []
        self._pieces: list[str] = []
        self.feed(self.html)
        assert self._open == []

    @property
    def text(self) -> str:
        return " ".join(" ".join(self._pieces).split())

    def section(self, stage: str) -> str:
        """The HTML of a stage's section."""
        return self.html.split(f'id="stage-{stage}"')[1].split("</section>")[0]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        facts = dict(attrs)
        self.tags.append(tag)
        self.links += [value or "" for key, value in attrs if key in ("src", "href", "xlink:href", "srcset", "action")]
        self.ids += [facts["id"] or ""] if "id" in facts else []
        self.pictures += [facts] if tag == "img" else []
        self.charts += [facts["aria-label"] or ""] if tag == "svg" and facts.get("role") == "img" else []
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self._open or self._open[-1] != "style":
            self._pieces.append(data)


def write_fit(folder: Path, *, epochs: int = 4, planned: int = 4, validated: bool = True, base: float = 0.7) -> None:
    """The files of a training, as the trainer writes them."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        EpochRow(epoch, 1e-3, 0.9 / epoch, 30.0, *((base + epoch / 100, 0.8, 0.4, 0.3, 0.6) if validated else ()))
        for epoch in range(1, epochs + 1)
    ]
    if rows:
        write_metrics(rows, folder / "metrics.csv")
        write_curve(rows, folder / "curve.png")
        best = rows[-1].surface_dice
        scores = {"held_out along z": {"surface_dice": best, "dice": 0.8}} if validated else {}
        threshold = {"value": 0.4, "low": 0.3, "high": 0.6} if validated else {"value": 0.5, "low": None, "high": None}
        facts = {"epoch": epochs, "scores": scores, "threshold": threshold}
        save_tensors(folder / "network.safetensors", {"weight": torch.full((2,), base)}, facts)
    settings = {"name": folder.name, "training": {"epochs": planned, "loss": {"dice": 1.0}}}
    record = {"settings": settings, "versions": {"torch": "2.9"}, "inputs": {}, "complete": epochs == planned}
    (folder / "run.json").write_text(json.dumps(record))


def write_pseudo_labels(folder: Path, *, met: bool = True, volume: str = "sparse") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        ThresholdRow(
            threshold=milli / 1000,
            true_positives=900 - milli // 2,
            false_positives=1000 - milli,
            false_negatives=100 + milli // 2,
            labelled_share=1000 / (2000 - milli),
        )
        for milli in range(20, 1000, 20)
    ]
    result = PseudoLabels(
        key="k", volume=volume, slices=(0, 8), label_fraction=0.65, chosen_threshold=0.46, labelled_share=0.6494,
        met=met, axes="zyx", teachers=[NetworkName(name="dense", sha256="0" * 64)], labelled_voxels=12345,
        rows=rows, files={"0.460": LabelFile(name="labels_0.460.tif", threshold=0.46, added_voxels=6543)},
    )  # fmt: skip
    write_result(folder / "pseudo_labels.json", result)
    write_picture(folder / "labels.png", width=300)


def write_evaluation(folder: Path, *, surface_dice: float = 0.8123, best: float = 0.4) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [SweepRow(threshold=t / 10, surface_dice=0.8 - abs(t / 10 - best), dice=0.9) for t in range(1, 10)]
    result = Evaluation(
        key="k", volume="test", networks=[NetworkName(name="dense", sha256="0" * 64)], axes="z", best_threshold=best,
        stable_low=0.3, stable_high=0.5, rows=rows, threshold_from="given",
        at={"threshold": 0.5, "surface_dice": surface_dice, "surface_dice_1": 0.95, "dice": 0.91, "recall": None},
    )  # fmt: skip
    write_result(folder / "evaluation.json", result)
    write_picture(folder / "slices.png", width=300)


def write_picture(path: Path, *, width: int, noise: bool = False) -> None:
    shape = (width // 4, width, 3)
    draw = np.random.default_rng(0)
    grey = draw.integers(0, 256, shape) if noise else np.full(shape, 128)
    Image.fromarray(grey.astype(np.uint8)).save(path)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A recipe's run with five stages done, and one that has not been run."""
    root = tmp_path / "run"
    root.mkdir()
    (root / "recipe.json").write_text(json.dumps({"name": "kidneys", "stages": STAGES}))
    folders = {name: root / "stages" / name for name in STAGES}
    volume = {"images dense_volume train": "a" * 64, "labels dense_volume train": "b" * 64}
    write_fit(folders["dense"])
    record(folders["dense"], "fit", volume | {"images held_out validation": "c" * 64}, {"training": {"epochs": 4}})
    write_pseudo_labels(folders["labels"])
    record(folders["labels"], "pseudo_label", {"images sparse": "d" * 64} | network(folders["dense"]))
    write_fit(folders["resumed"], base=0.8)
    added = {"images labels train": "d" * 64, "labels labels train": "e" * 64}
    record(folders["resumed"], "fit", volume | added | network(folders["dense"]), {"training": {"epochs": 4}})
    write_evaluation(folders["before"], surface_dice=0.7777)
    record(folders["before"], "evaluate", {"images test": "f" * 64} | network(folders["dense"]))
    write_evaluation(folders["after"])
    record(folders["after"], "evaluate", {"images test": "f" * 64} | network(folders["resumed"]))
    return root


def record(
    folder: Path, kind: str, inputs: dict[str, str], settings: dict[str, Any] | None = None, *, complete: bool = True
) -> None:
    write_stage(folder, StageRecord(folder.name, kind, settings or {}, inputs, complete=complete, seconds=100))


def network(folder: Path) -> dict[str, str]:
    content = (folder / "network.safetensors").read_bytes()
    return {f"network {folder.name}": hashlib.sha256(content).hexdigest()}


def page_of(run: Path) -> Page:
    return Page(write_report(run, overwrite=True))
