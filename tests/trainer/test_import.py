"""Published weights as a run: they answer as they did where they came from, and what does not fit is told apart."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import segmentation_models_pytorch as smp
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sennet_engine.bundle import open_bundle
from sennet_engine.runtimes import open_predictor
from sennet_trainer.network import build_segmenter
from sennet_trainer.prediction.teacher import open_teacher, teacher_from_path
from sennet_trainer.run_folder import NETWORK, load_run
from sennet_trainer.starting_weights import load_starting_weights

Command = Callable[..., Any]
CPU = torch.device("cpu")


class Published(nn.Module):
    """A network as the third place's code wraps it."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.model = smp.Unet("resnet18", encoder_weights=None, **({"in_channels": 1, "classes": 1} | options))

    def forward(self, tiles: Tensor) -> Tensor:
        return self.model(tiles)


@pytest.fixture
def published() -> Published:
    torch.manual_seed(3)
    return Published().eval()


@pytest.fixture
def imported(command: Command, tubes: Path, tmp_path: Path) -> Callable[..., Any]:
    """Run `sennet-train import` on a file, with further or other options."""

    def run(weights: Path, **changes: Any) -> Any:
        options = {"encoder": "resnet18", "tile": 64, "voxel-size": 50, "volume": tubes / "train.tif"}
        options |= {"threshold": 0.2, "out": tmp_path / "run"} | {
            key.replace("_", "-"): changes[key] for key in changes
        }
        return command("sennet-train", "import", weights, *(part for key in options for part in _option(key, options)))

    return run


def _option(key: str, options: dict[str, Any]) -> list[Any]:
    return [f"--{key}"] if options[key] is True else [f"--{key}", options[key]]


def _saved(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


def _tiles(seed: int, count: int = 2) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 1, 64, 64), np.uint8)


def _third_place_levels(tiles: npt.NDArray[np.uint8]) -> Tensor:
    """(x - mean) / (std + 1e-5) of each tile; what lies above 5 or below -3 is compressed to a thousandth."""
    grey = tiles.astype(np.float64)
    levels = (grey - grey.mean((1, 2, 3), keepdims=True)) / (grey.std((1, 2, 3), keepdims=True) + 1e-5)
    levels = np.where(levels > 5, 5 + (levels - 5) * 1e-3, levels)
    return torch.tensor(np.where(levels < -3, -3 + (levels + 3) * 1e-3, levels), dtype=torch.float32)


def test_imported_network_answers_as_the_published_one(
    imported: Callable[..., Any], published: Published, tmp_path: Path
) -> None:
    """Through the trainer's own predictor, with the third place's normalisation: the same grey levels."""
    ran = imported(_saved(published.state_dict(), tmp_path / "published.pt"))
    assert ran.code == 0, ran.err
    assert "names began with 'model.'" in ran.out
    tiles = _tiles(1)
    tiles[0, 0, :4, :4] = 255  # beyond 5 standard deviations
    tiles[0, 0, 4:] = 20
    with torch.inference_mode():
        expected = torch.sigmoid(published(_third_place_levels(tiles))).numpy() * 255
    teacher = teacher_from_path(tmp_path / "run")
    with open_teacher(teacher, device=CPU) as predictor:
        answers = predictor.predict(tiles)
    assert np.abs(answers - expected).max() <= 0.51
    assert np.ptp(expected) > 20
    assert (teacher.side, teacher.threshold.value, teacher.voxel_size_um) == (64, 0.2, 50.0)


def test_fixed_normalisation_and_magnification_are_kept(
    imported: Callable[..., Any], published: Published, tmp_path: Path
) -> None:
    """MEAN,STD of grey levels 0 to 1; crops of 0.5 to 1.25 are voxels of 40 to 100 µm, and none without the option."""
    weights = _saved(published.state_dict(), tmp_path / "published.pt")
    assert imported(weights, normalisation="0.4,0.25", magnification="0.5,1.25").code == 0
    run = load_run(tmp_path / "run")
    tiles = _tiles(2)
    with torch.inference_mode():
        expected = published(torch.tensor((tiles / 255 - 0.4) / 0.25, dtype=torch.float32))
        assert torch.allclose(run.segmenter(torch.tensor(tiles).float()), expected, atol=1e-4)
    assert run.settings.shown_voxel_sizes_um == (40.0, 100.0)
    assert imported(weights, out=tmp_path / "other").code == 0
    assert load_run(tmp_path / "other").settings.shown_voxel_sizes_um == (50.0, 50.0)


@pytest.mark.parametrize("form", ["plain", "checkpoint", "parallel", "half", "safetensors"])
def test_every_usual_form_of_a_state_dict(
    imported: Callable[..., Any], published: Published, tmp_path: Path, form: str
) -> None:
    """Bare names, within a checkpoint, with `module.` before them, in half precision, safetensors: the same weights."""
    state = published.state_dict()
    path = tmp_path / "weights.pt"
    if form == "plain":
        torch.save(published.model.state_dict(), path)
    elif form == "checkpoint":
        torch.save({"epoch": 7, "optimizer": {"step": torch.zeros(1)}, "model": {"state_dict": state}}, path)
    elif form == "parallel":
        torch.save({f"module.{name}": tensor for name, tensor in state.items()}, path)
    elif form == "half":
        torch.save(published.half().state_dict(), path)
    else:
        path = path.with_suffix(".safetensors")
        save_file(state, path)
    assert imported(path).code == 0
    found = load_run(tmp_path / "run").segmenter.network.state_dict()
    for name, tensor in state.items():
        there = found[name.removeprefix("model.")]
        assert there.dtype == (torch.int64 if name.endswith("num_batches_tracked") else torch.float32)
        assert torch.allclose(there, tensor.to(there.dtype), atol=1e-2 if form == "half" else 0)


def test_a_shallower_encoder_leaves_out_what_nothing_reads(imported: Callable[..., Any], tmp_path: Path) -> None:
    """smp builds all stages of a resnet at depth 3, and so do the published weights; the run has three."""
    torch.manual_seed(1)
    shallow = Published(encoder_depth=3, decoder_channels=(16, 8, 8)).eval()
    weights = _saved(shallow.state_dict(), tmp_path / "published.pt")
    assert imported(weights, encoder_depth=3, decoder_channels="16,8,8", normalisation="0,1").code == 0
    segmenter = load_run(tmp_path / "run").segmenter
    assert sum(p.numel() for p in segmenter.parameters()) < sum(p.numel() for p in shallow.parameters()) / 2
    tiles = _tiles(4)
    with torch.inference_mode():
        expected = shallow(torch.tensor(tiles / 255, dtype=torch.float32))
        assert torch.allclose(segmenter(torch.tensor(tiles).float()), expected, atol=1e-4)


class _RunsCode:
    """An object that makes a folder where a pickle of it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_needs_code_is_refused(
    imported: Callable[..., Any], published: Published, tmp_path: Path
) -> None:
    """It names the object and the way out; nothing of it has run, and no run is left."""
    weights = _saved({"state_dict": published.state_dict(), "args": _RunsCode(tmp_path / "owned")}, tmp_path / "w.pt")
    ran = imported(weights)
    assert ran.code == 2
    assert "holds a Python object (posix.mkdir)" in ran.err
    assert "torch.save(model.state_dict(), PATH)" in ran.err
    assert not (tmp_path / "owned").exists()
    assert not (tmp_path / "run").exists()


def test_a_whole_pickled_network_is_refused(imported: Callable[..., Any], published: Published, tmp_path: Path) -> None:
    """What torch.save(model) wrote is code by its nature."""
    ran = imported(_saved(published.model, tmp_path / "model.pt"))
    assert ran.code == 2
    assert "segmentation_models_pytorch" in ran.err
    assert "can run any code" in ran.err


@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04 cut off"])
@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
def test_what_is_no_file_of_weights_is_one_clear_line(
    imported: Callable[..., Any], tmp_path: Path, name: str, content: bytes
) -> None:
    """Also an empty file, and one that ends early."""
    (tmp_path / name).write_bytes(content)
    ran = imported(tmp_path / name)
    assert ran.code == 2
    assert "is not a file of PyTorch weights" in ran.err
    assert ran.err.count("\n") == 1


def test_a_missing_file_is_named(imported: Callable[..., Any], tmp_path: Path) -> None:
    """Exit code 2."""
    ran = imported(tmp_path / "nowhere.pt")
    assert ran.code == 2
    assert "nowhere.pt" in ran.err
    assert "No such file" in ran.err


def test_weights_of_another_encoder_say_of_which(
    imported: Callable[..., Any], published: Published, tmp_path: Path
) -> None:
    """Counts, a few names, and the options that fit."""
    weights = _saved(published.state_dict(), tmp_path / "published.pt")
    ran = imported(weights, encoder="resnet34")
    assert ran.code == 2
    missing = set(smp.Unet("resnet34", encoder_weights=None).state_dict()) - set(published.model.state_dict())
    assert f"{len(missing)} missing: encoder.layer1.2." in ran.err
    assert f"and {len(missing) - 3} more" in ran.err
    assert "it is of: --decoder Unet --encoder resnet18" in ran.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("is_of", "asked"), [("UnetPlusPlus", "Unet"), ("Unet", "UnetPlusPlus")])
def test_weights_of_another_decoder_say_of_which(
    imported: Callable[..., Any], tmp_path: Path, is_of: str, asked: str
) -> None:
    """U-Net and U-Net++ are told apart by the names of their blocks."""
    network = getattr(smp, is_of)("resnet18", encoder_weights=None, in_channels=1)
    ran = imported(_saved(network.state_dict(), tmp_path / "published.pt"), decoder=asked)
    assert ran.code == 2
    assert f"it is of: --decoder {is_of} --encoder resnet18" in ran.err


@pytest.mark.parametrize(
    ("options", "expected"),
    [({"in_channels": 3}, "three channels"), ({"classes": 4}, "answers with 4 classes")],
)
def test_other_channels_and_classes_are_told(
    imported: Callable[..., Any], tmp_path: Path, options: dict[str, int], expected: str
) -> None:
    """The shapes that differ, and what they mean."""
    ran = imported(_saved(Published(**options).state_dict(), tmp_path / "published.pt"))
    assert ran.code == 2
    assert "of another shape" in ran.err
    assert expected in ran.err


def test_weights_that_are_not_numbers_are_refused(
    imported: Callable[..., Any], published: Published, tmp_path: Path
) -> None:
    """A training that diverged leaves NaN."""
    with torch.no_grad():
        published.model.segmentation_head[0].bias[0] = float("nan")
    ran = imported(_saved(published.state_dict(), tmp_path / "published.pt"))
    assert ran.code == 2
    assert "1 not finite: segmentation_head.0.bias" in ran.err


def test_other_tensors_are_no_network(imported: Callable[..., Any], tmp_path: Path) -> None:
    """It says what the names of a network begin with, and what was there."""
    ran = imported(_saved({"layer.weight": torch.zeros(3)}, tmp_path / "other.pt"))
    assert ran.code == 2
    assert "got layer.weight" in ran.err


def test_a_tile_that_the_network_does_not_take(
    imported: Callable[..., Any], published: Published, tmp_path: Path
) -> None:
    """Refused before anything is written."""
    ran = imported(_saved(published.state_dict(), tmp_path / "published.pt"), tile=100)
    assert ran.code == 2
    assert "got 100, expected a multiple of 32; try 96" in ran.err
    assert not (tmp_path / "run").exists()


def test_a_run_is_replaced_only_with_overwrite(
    imported: Callable[..., Any], published: Published, tmp_path: Path
) -> None:
    """The same import again is refused too, and leaves the run as it was."""
    weights = _saved(published.state_dict(), tmp_path / "published.pt")
    assert imported(weights).code == 0
    before = (tmp_path / "run" / NETWORK).read_bytes()
    again = imported(weights)
    assert again.code == 2
    assert "--overwrite" in again.err
    with torch.no_grad():
        published.model.segmentation_head[0].bias += 1
    _saved(published.state_dict(), weights)
    assert imported(weights, threshold=0.3).code == 2
    assert (tmp_path / "run" / NETWORK).read_bytes() == before
    assert imported(weights, overwrite=True).code == 0
    assert (tmp_path / "run" / NETWORK).read_bytes() != before


def test_trainings_start_from_an_import(
    imported: Callable[..., Any], published: Published, settings_of: Callable[..., Any], tmp_path: Path
) -> None:
    """`start_from` takes it, since it is complete."""
    assert imported(_saved(published.state_dict(), tmp_path / "published.pt")).code == 0
    network = {"encoder": "resnet18", "normalisation": {"kind": "tile"}}
    settings = settings_of(network=network, start_from=tmp_path / "run")
    segmenter = build_segmenter(settings.network)
    load_starting_weights(segmenter, settings)
    expected = published.model.segmentation_head[0].weight
    assert torch.equal(segmenter.network.state_dict()["segmentation_head.0.weight"], expected)


@pytest.mark.slow
def test_an_import_is_exported(
    command: Command, imported: Callable[..., Any], published: Published, tubes: Path, tmp_path: Path
) -> None:
    """The bundle answers as the published network, and its card says what the options said."""
    assert imported(_saved(published.state_dict(), tmp_path / "published.pt")).code == 0
    ran = command("sennet-export", tmp_path / "run", "--out", tmp_path / "final.model", "--quiet")
    assert ran.code == 0, ran.err
    bundle = open_bundle(tmp_path / "final.model")
    tiles = _tiles(6)
    with torch.inference_mode():
        expected = torch.sigmoid(published(_third_place_levels(tiles))).numpy() * 255
    with open_predictor(bundle, threads=1) as predictor:
        assert np.abs(predictor.predict(tiles) - expected).max() <= 1.01
    assert (bundle.card.threshold.value, bundle.card.tiling.sides, bundle.card.tiling.exact) == (0.2, [64], False)
    assert bundle.card.trained_on == ["tubes/train.tif"]
