"""Runs are replaced, gone on with and completed without losing what is there."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tifffile
from safetensors.torch import load_file, save

from sennet_engine.card import Threshold
from sennet_engine.errors import ModelError, OutputError, SennetError
from sennet_trainer.beginning import SharedInputs
from sennet_trainer.fit import fit
from sennet_trainer.folder_lock import alone_in
from sennet_trainer.run_folder import load_run
from sennet_trainer.settings import FitSettings

from .conftest import CPU, Silent, StopsAfter

SettingsOf = Callable[..., FitSettings]

ONE_EPOCH: dict[str, Any] = {"epochs": 1, "batch": 4}


def contents(folder: Path) -> dict[str, bytes]:
    """The files at the top of a run folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def labels_gone(settings: FitSettings, tubes: Path) -> FitSettings:
    (tubes / "train_labels.tif").unlink()
    return settings


def labels_with_other_values(settings: FitSettings, tubes: Path) -> FitSettings:
    tifffile.imwrite(tubes / "train_labels.tif", tifffile.imread(tubes / "train_labels.tif") // 2)
    return settings


def encoder_misspelt(settings: FitSettings, tubes: Path) -> FitSettings:
    return settings.model_copy(update={"network": settings.network.model_copy(update={"encoder": "resnet81"})})


def weights_missing(settings: FitSettings, tubes: Path) -> FitSettings:
    network = settings.network.model_copy(update={"encoder_weights": str(tubes / "none.safetensors")})
    return settings.model_copy(update={"network": network})


@pytest.mark.parametrize("spoil", [labels_gone, labels_with_other_values, encoder_misspelt, weights_missing])
def test_a_slip_with_overwrite_costs_no_finished_run(
    settings_of: SettingsOf, tubes: Path, tmp_path: Path, spoil: Callable[[FitSettings, Path], FitSettings]
) -> None:
    """What is wrong with the new run is found before the old one is deleted."""
    run = tmp_path / "run"
    fit(settings_of(training=ONE_EPOCH), run, device=CPU, observer=Silent())
    before = contents(run)
    with pytest.raises(SennetError):
        fit(spoil(settings_of(training=ONE_EPOCH), tubes), run, device=CPU, observer=Silent(), overwrite=True)
    assert contents(run) == before
    assert load_run(run).complete


def test_overwrite_leaves_nothing_of_the_run_before(settings_of: SettingsOf, tmp_path: Path) -> None:
    """Neither epochs nor volumes that are no longer used."""
    run = tmp_path / "run"
    fit(settings_of(), run, device=CPU, observer=Silent())
    alone = settings_of(volumes=[settings_of().volumes[0].model_dump()], training=ONE_EPOCH)
    progress = fit(alone, run, device=CPU, observer=Silent(), overwrite=True)
    assert progress.epochs == load_run(run).epoch == 1
    assert len(list((run / "cache").iterdir())) == 2  # its images and its labels


def test_overwriting_run_is_gone_on_with_as_any_other(settings_of: SettingsOf, tmp_path: Path) -> None:
    """Interrupted, it is not taken for the complete run that it replaces."""
    settings, run = settings_of(), tmp_path / "run"
    fit(settings, run, device=CPU, observer=Silent())
    with pytest.raises(KeyboardInterrupt):
        fit(settings, run, device=CPU, observer=StopsAfter(1), overwrite=True)
    observer = Silent()
    progress = fit(settings, run, device=CPU, observer=observer)
    assert (observer.epochs_done, progress.epochs) == (1, settings.training.epochs)


def change_labels(settings: FitSettings) -> None:
    path = settings.volumes[0].labels
    assert path is not None
    labels = tifffile.imread(path)
    labels[0] = 0
    tifffile.imwrite(path, labels)
    os.utime(path, ns=(1, 1))


def test_changed_labels_are_not_gone_on_with(settings_of: SettingsOf, tmp_path: Path) -> None:
    """Half a training on other labels is a result that nobody can repeat."""
    settings, run = settings_of(), tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        fit(settings, run, device=CPU, observer=StopsAfter(1))
    change_labels(settings)
    with pytest.raises(OutputError, match=r"labels .*train_labels\.tif changed since .* --overwrite starts anew"):
        fit(settings, run, device=CPU, observer=Silent())
    assert fit(settings, run, device=CPU, observer=Silent(), overwrite=True).epochs == settings.training.epochs


def test_changed_labels_of_a_complete_run_are_a_warning(
    settings_of: SettingsOf, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The run is left as it is."""
    settings, run = settings_of(training=ONE_EPOCH), tmp_path / "run"
    fit(settings, run, device=CPU, observer=Silent())
    change_labels(settings)
    observer = Silent()
    fit(settings, run, device=CPU, observer=observer)
    assert observer.losses == []
    assert "train_labels.tif changed since the run was begun" in caplog.text


def test_run_without_fingerprints_is_gone_on_with(settings_of: SettingsOf, tmp_path: Path) -> None:
    """A run.json of before they were kept still loads."""
    settings, run = settings_of(), tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        fit(settings, run, device=CPU, observer=StopsAfter(1))
    facts = json.loads((run / "run.json").read_text())
    assert len(facts.pop("inputs")) == 4
    (run / "run.json").write_text(json.dumps(facts))
    assert fit(settings, run, device=CPU, observer=Silent()).epochs == settings.training.epochs
    assert load_run(run).complete


def test_metrics_of_a_run_killed_after_its_last_checkpoint_are_whole(settings_of: SettingsOf, tmp_path: Path) -> None:
    """The rows come from the checkpoint."""
    settings, run = settings_of(training=ONE_EPOCH), tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        fit(settings, run, device=CPU, observer=StopsAfter(1))
    for name in ("metrics.csv", "curve.png"):
        (run / name).unlink()
    fit(settings, run, device=CPU, observer=Silent())
    assert (run / "metrics.csv").read_text().count("\n") == 2
    assert (run / "curve.png").exists()


def test_recipe_file_does_not_stop_a_run_from_beginning(settings_of: SettingsOf, tmp_path: Path) -> None:
    """Nor is it ever deleted, whether the run fails to begin or is replaced."""
    run, stage = tmp_path / "run", tmp_path / "run" / "stage.json"
    run.mkdir()
    stage.write_text("{}")
    (run / "run.json.partial").write_text("")  # as a kill leaves it
    with pytest.raises(SennetError):
        fit(encoder_misspelt(settings_of(), tmp_path), run, device=CPU, observer=Silent())
    missing = settings_of(volumes=[{"images": tmp_path / "none.tif", "allow_empty": True}])
    with pytest.raises(SennetError):
        fit(missing, run, device=CPU, observer=Silent())
    assert stage.exists()
    fit(settings_of(training=ONE_EPOCH), run, device=CPU, observer=Silent())
    fit(settings_of(training=ONE_EPOCH, seed=1), run, device=CPU, observer=Silent(), overwrite=True)
    assert stage.read_text() == "{}"
    assert load_run(run).settings.seed == 1


def test_shared_cache_is_used_by_all_runs_and_pruned_by_none(settings_of: SettingsOf, tmp_path: Path) -> None:
    """Runs that use it have no cache of their own, and leave the volumes of others in it."""
    cache = tmp_path / "cache"
    fit(
        settings_of(training=ONE_EPOCH), tmp_path / "one", device=CPU, observer=Silent(), shared=SharedInputs(cache, {})
    )
    made = {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    alone = settings_of(volumes=[settings_of().volumes[0].model_dump()], training=ONE_EPOCH)
    for _ in range(2):
        fit(alone, tmp_path / "other", device=CPU, observer=Silent(), shared=SharedInputs(cache, {}), overwrite=True)
    assert made
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*")} == made
    assert not (tmp_path / "one" / "cache").exists()
    assert not (tmp_path / "other" / "cache").exists()


def test_swept_threshold_takes_the_place_of_the_validated_one(settings_of: SettingsOf, tmp_path: Path) -> None:
    """Until the weights that it was found with are replaced."""
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        fit(settings_of(), run, device=CPU, observer=StopsAfter(1))
    (run / "threshold.json").write_text('{"value": 0.12, "low": 0.1, "high": 0.35, "volume": "kidney"}')
    assert load_run(run).threshold == Threshold(value=0.12, low=0.1, high=0.35)
    alone = [settings_of().volumes[0].model_dump()]
    fit(settings_of(volumes=alone), run, device=CPU, observer=Silent(), overwrite=True)
    assert load_run(run).threshold == Threshold(value=0.5)


@pytest.mark.parametrize("content", ["{", "[]", '{"low": 0.1}', '{"value": 7, "low": null, "high": null}', "\udcff"])
def test_unreadable_threshold_is_an_error(settings_of: SettingsOf, tmp_path: Path, content: str) -> None:
    """And not silently another one."""
    fit(settings_of(training=ONE_EPOCH), tmp_path / "run", device=CPU, observer=Silent())
    (tmp_path / "run" / "threshold.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ModelError, match=r"(?s)threshold\.json: cannot be read .* `sennet-train threshold"):
        load_run(tmp_path / "run")


def test_networks_of_earlier_versions_are_read(settings_of: SettingsOf, tmp_path: Path) -> None:
    """They have a key for each fact; now all facts are under one, whose bytes do not depend on an order of keys."""
    fit(settings_of(training=ONE_EPOCH), tmp_path / "run", device=CPU, observer=Silent())
    path, now = tmp_path / "run" / "network.safetensors", load_run(tmp_path / "run")
    facts = {"epoch": now.epoch, "scores": now.scores, "threshold": now.threshold.model_dump()}
    path.write_bytes(save(load_file(path), metadata={key: json.dumps(value) for key, value in facts.items()}))
    before = load_run(tmp_path / "run")
    assert (before.epoch, before.scores, before.threshold) == (now.epoch, now.scores, now.threshold)


def test_one_training_at_a_time_works_in_a_folder(settings_of: SettingsOf, tmp_path: Path) -> None:
    """Another one would write the same checkpoint."""
    with alone_in(tmp_path / "run"), pytest.raises(OutputError, match="another process is at work there"):
        fit(settings_of(training=ONE_EPOCH), tmp_path / "run", device=CPU, observer=Silent())
    assert not (tmp_path / "run").exists()


def test_a_kill_while_a_run_is_replaced_leaves_a_run(
    settings_of: SettingsOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record goes last, so that the same command is not told that the folder is nobody's."""
    fit(settings_of(training=ONE_EPOCH), tmp_path / "run", device=CPU, observer=Silent())

    unlink = Path.unlink

    def killed_after_it(path: Path, missing_ok: bool = False) -> None:
        unlink(path, missing_ok)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "unlink", killed_after_it)
    with pytest.raises(KeyboardInterrupt):
        fit(settings_of(training=ONE_EPOCH), tmp_path / "run", device=CPU, observer=Silent(), overwrite=True)
    monkeypatch.undo()
    observer = Silent()
    fit(settings_of(training=ONE_EPOCH), tmp_path / "run", device=CPU, observer=observer, overwrite=True)
    assert len(observer.rows) == 1
