"""Pseudo-labels: only additions, at the threshold that the stated fraction asks for, resumable at any point."""

import json
import logging
import os
import resource
import shutil
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
from PIL import Image

from sennet_engine.errors import ConfigError, OutputError, VolumeError
from sennet_engine.volumes.open import open_volume
from sennet_trainer.labelled_volume import cached_volume
from sennet_trainer.prediction.pseudo_labels import PseudoLabels
from sennet_trainer.volume_settings import VolumeSettings

from .conftest import SHAPE_ZYX, Watched

LabelledBy = Callable[..., PseudoLabels]
SettingsOf = Callable[..., VolumeSettings]


def files_in(folder: Path) -> dict[str, bytes]:
    """The content of every file below `folder`."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_found_vessels_are_added_and_no_real_label_changes(
    settings_of_sparse: SettingsOf, labelled_by: LabelledBy, identity_bundle: Path, tmp_path: Path
) -> None:
    """1 where the real label is; 2 where the mean probability reaches the threshold and no real label is; else 0."""
    settings = settings_of_sparse(voxel_size_um=50.0)
    found = labelled_by(settings, identity_bundle)
    (file,) = found.files.values()
    volume = cached_volume(settings, tmp_path / "cache")
    real, probability = volume.labels, volume.images / 255  # the identity, along every axis
    labels = tifffile.imread(tmp_path / "out" / file.name)
    assert labels.dtype == np.uint8
    assert ((labels == 1) == (real == 1)).all()
    assert ((labels == 2) == ((probability >= found.chosen_threshold - 1e-9) & (real == 0))).all()
    assert file.added_voxels == np.count_nonzero(labels == 2) > 0
    assert found.labelled_voxels == np.count_nonzero(real)
    assert found.labelled_share == found.labelled_voxels / np.count_nonzero(labels)
    with open_volume(tmp_path / "out" / file.name) as written:
        assert written.voxel_size_um == pytest.approx((50.0, 50.0, 50.0))


def test_labelled_share_comes_as_near_to_the_fraction_as_it_can(
    settings_of_sparse: SettingsOf, labelled_by: LabelledBy, identity_bundle: Path, tmp_path: Path
) -> None:
    """The result says what was chosen, from which table, and that it is met; all of it is in the JSON file."""
    found = labelled_by(settings_of_sparse(), identity_bundle)
    assert found.met
    assert found.warning is None
    assert abs(found.labelled_share - 0.8) <= 0.01
    assert found.labelled_share == min((row.labelled_share for row in found.rows), key=lambda share: abs(share - 0.8))
    facts = json.loads((tmp_path / "out" / "pseudo_labels.json").read_text())
    assert facts["volume"] == "volume/image"
    assert facts["axes"] == "zyx"
    assert [teacher["name"] for teacher in facts["teachers"]] == ["identity"]
    assert 45 <= len(facts["rows"]) <= 55
    assert facts["files"] == {f"{found.chosen_threshold:.3f}": next(iter(found.files.values())).model_dump()}
    assert PseudoLabels.model_validate(facts) == found


def test_a_fraction_that_no_threshold_meets_takes_the_nearest_and_says_so(
    settings_of_sparse: SettingsOf, labelled_by: LabelledBy, identity_bundle: Path, sparse: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """The whole volume is one grey level, so a threshold finds all of it or nothing."""
    tifffile.imwrite(sparse / "flat.tif", np.full(SHAPE_ZYX, 7, np.uint8))
    with caplog.at_level(logging.WARNING):
        found = labelled_by(settings_of_sparse(images=sparse / "flat.tif", invert=False), identity_bundle)
    assert not found.met
    assert found.warning is not None
    assert found.warning in caplog.text
    assert "thresholds = [0.1, 0.15, 0.2]" in found.warning
    assert found.chosen_threshold == 0.999
    assert found.labelled_share == 1.0


def test_given_thresholds_make_a_file_each_from_one_prediction(
    settings_of_sparse: SettingsOf, labelled_by: LabelledBy, identity_bundle: Path, tmp_path: Path
) -> None:
    """A lower threshold adds what a higher one adds and more; the chosen threshold is told all the same."""
    alone = labelled_by(settings_of_sparse(), identity_bundle)
    observer = Watched()
    found = labelled_by(settings_of_sparse(), identity_bundle, thresholds=[0.9, 0.3, 0.6], observer=observer)
    assert observer.kinds == {"counting", "merging"}
    assert list(found.files) == ["0.300", "0.600", "0.900"]
    assert found.chosen_threshold == alone.chosen_threshold
    added = [tifffile.imread(tmp_path / "out" / file.name) == 2 for file in found.files.values()]
    assert not (added[1] & ~added[0]).any()
    assert not (added[2] & ~added[1]).any()
    assert [np.count_nonzero(one) for one in added] == [file.added_voxels for file in found.files.values()]
    assert {f"{row.threshold:.3f}" for row in found.rows} >= {*found.files, f"{found.chosen_threshold:.3f}"}
    names = {path.name for path in (tmp_path / "out").glob("*.tif")}
    assert names == {file.name for file in found.files.values()}, "files of the former thresholds are gone"


def test_another_fraction_or_other_labels_are_merged_without_predicting(
    settings_of_sparse: SettingsOf, labelled_by: LabelledBy, identity_bundle: Path, sparse: Path
) -> None:
    """The probability belongs to the images; a changed label file is seen all the same."""
    first = labelled_by(settings_of_sparse(), identity_bundle)
    observer = Watched()
    second = labelled_by(settings_of_sparse(label_fraction=0.6), identity_bundle, observer=observer)
    assert second.chosen_threshold < first.chosen_threshold
    labels = tifffile.imread(sparse / "sparse.tif")
    labels[:20] = 0
    tifffile.imwrite(sparse / "sparse.tif", labels)
    third = labelled_by(settings_of_sparse(label_fraction=0.6), identity_bundle, observer=observer)
    assert third.labelled_voxels < second.labelled_voxels
    assert observer.kinds == {"counting", "merging"}


def test_a_finished_stage_is_not_touched(
    settings_of_sparse: SettingsOf, labelled_by: LabelledBy, identity_bundle: Path, tmp_path: Path
) -> None:
    """The second call returns what the first did, and writes nothing."""
    first = labelled_by(settings_of_sparse(), identity_bundle)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    observer = Watched()
    assert labelled_by(settings_of_sparse(), identity_bundle, observer=observer) == first
    assert observer.calls == []
    assert times == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}


def test_a_missing_label_file_is_written_again(
    settings_of_sparse: SettingsOf, labelled_by: LabelledBy, identity_bundle: Path, tmp_path: Path
) -> None:
    """Without predicting anew."""
    first = labelled_by(settings_of_sparse(), identity_bundle)
    before = files_in(tmp_path / "out")
    (tmp_path / "out" / next(iter(first.files.values())).name).unlink()
    labelled_by(settings_of_sparse(), identity_bundle)
    assert files_in(tmp_path / "out") == before


def test_label_files_have_all_planes_and_can_be_trained_on(
    settings_of_sparse: SettingsOf, labelled_by: LabelledBy, identity_bundle: Path, tmp_path: Path, sparse: Path
) -> None:
    """Where slices are used only, the others keep their real labels, and the same slices can be used with the file."""
    settings = settings_of_sparse(slices=(10, 30))
    found = labelled_by(settings, identity_bundle)
    path = tmp_path / "out" / next(iter(found.files.values())).name
    labels, real = tifffile.imread(path), tifffile.imread(sparse / "sparse.tif")
    assert found.slices == (10, 30)
    assert labels.shape == SHAPE_ZYX
    assert (labels[:10] == real[:10]).all()
    assert (labels[30:] == real[30:]).all()
    assert (labels[10:30] == 2).any()
    trained_on = settings.model_copy(update={"labels": path, "pseudo_labels": True})
    assert (cached_volume(trained_on, tmp_path / "cache").labels == (labels[10:30] > 0)).all()


def test_unlabelled_planes_are_no_background(
    labelled_by: LabelledBy, identity_bundle: Path, tmp_path: Path, sparse: Path
) -> None:
    """Where the labels cover some slices only, the file has these alone, and does not fit without naming them."""
    for name, array in (
        ("images", tifffile.imread(sparse / "image.tif")),
        ("labels", tifffile.imread(sparse / "sparse.tif")),
    ):
        (tmp_path / name).mkdir()
        for z in range(4, 20) if name == "labels" else range(SHAPE_ZYX[0]):
            tifffile.imwrite(tmp_path / name / f"{z:04d}.tif", array[z])
    settings = VolumeSettings(images=tmp_path / "images", labels=tmp_path / "labels", label_fraction=0.8, invert=True)
    found = labelled_by(settings, identity_bundle)
    path = tmp_path / "out" / next(iter(found.files.values())).name
    assert found.slices == (4, 20)
    assert (tifffile.imread(path) == 1).sum() == found.labelled_voxels
    trained_on = settings.model_copy(update={"labels": path, "pseudo_labels": True})
    with pytest.raises(VolumeError, match=r"got labels of shape \(16, 52, 70\)"):
        cached_volume(trained_on, tmp_path / "cache")
    named = trained_on.model_copy(update={"slices": found.slices})
    assert cached_volume(named, tmp_path / "cache").labels.shape == (16, 52, 70)


def test_pictures_show_the_plane_to_which_most_is_added(
    settings_of_sparse: SettingsOf, labelled_by: LabelledBy, identity_bundle: Path, tmp_path: Path
) -> None:
    """In the third of four panels added voxels have a colour that the second panel lacks."""
    labelled_by(settings_of_sparse(), identity_bundle)
    with Image.open(tmp_path / "out" / "labels.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    second_ends, third_ends = (int(share * pixels.shape[1]) for share in (0.482, 0.72))
    blue = (pixels[..., 2] - pixels[..., 0]) > 80
    assert blue[:, second_ends:third_ends].sum() > 50
    assert not blue[:, :second_ends].any()
    with Image.open(tmp_path / "out" / "thresholds.png") as curve:
        assert min(curve.size) > 300


@pytest.mark.parametrize(
    ("changes", "options", "error", "message"),
    [
        ({"pseudo_labels": True}, {}, VolumeError, "give the volume with its real labels"),
        ({"labels": None, "allow_empty": True}, {}, VolumeError, "no voxel is labelled"),
        ({}, {"axes": "zq"}, ConfigError, "axes: got 'zq'"),
        ({}, {"thresholds": [0.1, 1.5]}, ConfigError, "thresholds: got"),
        ({}, {"thresholds": [0.1, 0.1004]}, ConfigError, "differ by 0.001"),
        ({}, {"thresholds": []}, ConfigError, "expected one or more"),
        ({"slices": (0, 99)}, {}, VolumeError, "slices"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_is_written(
    settings_of_sparse: SettingsOf, labelled_by: LabelledBy, identity_bundle: Path, tmp_path: Path,
    changes: dict[str, Any], options: dict[str, Any], error: type[Exception], message: str,
) -> None:  # fmt: skip
    """The error says what was got."""
    with pytest.raises(error, match=message):
        labelled_by(settings_of_sparse(**changes), identity_bundle, **options)
    assert not (tmp_path / "out").exists()


def test_no_network_and_no_folder_are_refused(
    settings_of_sparse: SettingsOf, labelled_by: LabelledBy, identity_bundle: Path, tmp_path: Path
) -> None:
    """A file where the folder should be stays as it is."""
    with pytest.raises(ConfigError, match="networks: got 0"):
        labelled_by(settings_of_sparse())
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OutputError, match="is a file"):
        labelled_by(settings_of_sparse(), identity_bundle)
    assert (tmp_path / "out").read_text() == "mine"


def test_a_disk_that_fills_up_leaves_what_is_whole(
    settings_of_sparse: SettingsOf, labelled_by: LabelledBy, identity_bundle: Path, tmp_path: Path
) -> None:
    """The error names the file; nothing half-written stays; with room again the call ends as if nothing had been."""
    labelled_by(settings_of_sparse(), identity_bundle)
    expected = files_in(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for largest in (50_000, 150_000, 2_000):  # a slab; the sums; the label file, where the sums are there
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, hard))
        try:
            with pytest.raises(OSError, match="File too large") as raised:
                labelled_by(settings_of_sparse(), identity_bundle)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert str(tmp_path / "out") in str(raised.value.filename)
        assert not list((tmp_path / "out").rglob("*.partial"))
        if largest == 150_000:
            labelled_by(settings_of_sparse(), identity_bundle)
            next((tmp_path / "out").glob("labels_*.tif")).unlink()
    labelled_by(settings_of_sparse(), identity_bundle)
    assert files_in(tmp_path / "out") == expected


@pytest.mark.parametrize(
    ("what", "done"),
    [
        ("predicting", 68),
        pytest.param("adding up", 36, marks=pytest.mark.slow),
        pytest.param("merging", 20, marks=pytest.mark.slow),
    ],
)
def test_killed_pseudo_labels_end_with_the_same_bytes(
    settings_of_sparse: SettingsOf, labelled_by: LabelledBy, strided_bundle: Path, identity_bundle: Path,
    tmp_path: Path, what: str, done: int,
) -> None:  # fmt: skip
    """SIGKILL in the middle of the prediction, of the sum or of the merge costs the slab in hand and nothing else."""
    networks = [strided_bundle, identity_bundle]
    labelled_by(settings_of_sparse(), *networks, out=tmp_path / "whole")
    (tmp_path / "settings.json").write_text(settings_of_sparse().model_dump_json())
    script = f"""
        import os, signal
        from pathlib import Path
        import torch
        from sennet_trainer.prediction.pseudo_labels import pseudo_label
        from sennet_trainer.prediction.task import prediction_task
        from sennet_trainer.volume_settings import VolumeSettings
        def killed(what, done, total):
            if (what, done) == ({what!r}, {done}):
                os.kill(os.getpid(), signal.SIGKILL)
        settings = VolumeSettings.model_validate_json(Path({str(tmp_path / "settings.json")!r}).read_text())
        networks = [Path(path) for path in {[str(path) for path in networks]!r}]
        task = prediction_task(settings, networks, axes=None, cache=Path({str(tmp_path / "cache")!r}))
        pseudo_label(
            task, Path({str(tmp_path / "out")!r}), thresholds=None, device=torch.device("cpu"), observer=killed
        )
    """
    child = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False, env={**os.environ})
    assert child.returncode == -signal.SIGKILL
    assert not (tmp_path / "out" / "pseudo_labels.json").exists()
    assert not list((tmp_path / "out").glob("labels_*.tif"))
    observer = Watched()
    labelled_by(settings_of_sparse(), *networks, observer=observer)
    if what == "merging":
        assert "predicting" not in observer.kinds
    else:
        assert observer.first("predicting") == (done if what == "predicting" else 2 * sum(SHAPE_ZYX))
    assert files_in(tmp_path / "out") == files_in(tmp_path / "whole")
