"""Ensembles: what their files may say, which bundles they open, and how much each pass counts."""

import json
import shutil
import tomllib
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from sennet_engine.bundle import Bundle
from sennet_engine.card import Precision
from sennet_engine.ensemble_file import OpenedEnsemble, Pass, expanded_passes, opened_ensemble
from sennet_engine.errors import ConfigError, ModelError

SHIPPED = sorted((Path(__file__).parents[2] / "ensembles").glob("*.toml"))
RECIPE = Path(__file__).parents[2] / "recipes" / "sennet_hoa.toml"
EXPORTED = {
    "final_maxvit": (512,), "final_seresnext": (384, 512), "final_efficientnet_l": (512,),
    "final_efficientnet_s": (512,), "final_efficientnet_s_832": (832,),
}  # fmt: skip
"""What the heads of the shipped files say how to export, with the tile sides."""
PLANE = (600, 900, 1000)
"""Of its planes only those along z have both sides above 832."""


@pytest.fixture
def bundle(identity_bundle: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write FOLDER/NAME.model: the identity with another card."""

    def write(name: str, *, folder: Path = tmp_path, precision: Precision = "fp32", **tiling: Any) -> Path:
        path = folder / f"{name}.model"
        shutil.copytree(identity_bundle, path, dirs_exist_ok=True)
        card = json.loads((path / "model.json").read_text())
        card["name"] = name
        card["tiling"] |= tiling
        card["files"]["model.onnx"]["precision"] = precision
        (path / "model.json").write_text(json.dumps(card))
        return path

    return write


@pytest.fixture
def never_exact(bundle: Callable[..., Path]) -> Callable[..., Path]:
    """Write a bundle whose tiles are blended."""
    return lambda name, sides=(512,), **further: bundle(
        name, stride=32, sides=list(sides), default_side=sides[0], halo=0, exact=False, **further
    )


@pytest.fixture
def ensemble(tmp_path: Path) -> Callable[[str], Path]:
    """Write the text to ensemble.toml."""

    def write(text: str) -> Path:
        path = tmp_path / "ensemble.toml"
        path.write_text(text)
        return path

    return write


def _opened(path: Path | None, precision: Precision = "fp32", **options: Any) -> OpenedEnsemble:
    return opened_ensemble(path, precision=precision, **options)


def _passes(opened: OpenedEnsemble, shape_zyx: tuple[int, int, int] = PLANE, **options: Any) -> tuple[Pass, ...]:
    given: dict[str, Any] = {"voxel_size_um": None, "precision": opened.precision} | options
    return expanded_passes(opened.ensemble, opened.bundles, shape_zyx=shape_zyx, **given)


def _weights(passes: tuple[Pass, ...]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for one in passes:
        found[one.bundle.card.name] += one.weight
    return dict(found)


def test_without_a_model_it_is_the_builtin_one() -> None:
    """One pass along z with the built-in's own threshold; the plan is free to choose tiles."""
    opened = _opened(None)
    (one,) = _passes(opened)
    assert opened.name == "builtin"
    assert opened.threshold == one.bundle.card.threshold.value
    assert (one.name, one.axis, one.flip, one.weight, one.tile, one.stride) == ("builtin z", "z", "none", 1, None, None)


def test_a_bundle_is_an_ensemble_of_one_pass(identity_bundle: Path) -> None:
    """Its key and its sha256s do not depend on where it lies."""
    opened = _opened(identity_bundle)
    card = opened.bundles["identity.model fp32"].card
    assert opened.name == "identity"
    assert opened.threshold == 0.5
    assert opened.sha256s == {"identity.model/model.onnx": card.files["model.onnx"].sha256}
    assert [one.key for one in _passes(opened)] == ["identity.model fp32"]


def test_bundles_lie_beside_the_file_or_where_models_says(
    bundle: Callable[..., Path], ensemble: Callable[[str], Path], tmp_path: Path
) -> None:
    """A path is relative to either; `builtin` is the shipped model in both cases."""
    text = 'threshold = 0.3\n[[passes]]\nmodel = "sub/one.model"\n[[passes]]\nmodel = "builtin"'
    bundle("one", folder=tmp_path / "sub")
    opened = _opened(ensemble(text))
    assert [one.bundle.card.name for one in _passes(opened)] == ["one", "builtin"]
    (tmp_path / "elsewhere").mkdir()
    shutil.move(tmp_path / "sub", tmp_path / "elsewhere")
    opened = _opened(ensemble(text), models=tmp_path / "elsewhere")
    assert opened.bundles["sub/one.model fp32"].path == tmp_path / "elsewhere/sub/one.model"


def test_each_bundle_is_opened_once(
    bundle: Callable[..., Path], ensemble: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where two passes name it differently; a predictor is needed for each precision."""
    path = bundle("one")
    card = json.loads((path / "model.json").read_text())
    (path / "model.int8.onnx").write_bytes((path / "model.onnx").read_bytes())
    card["files"]["model.int8.onnx"] = card["files"]["model.onnx"] | {"precision": "int8"}
    (path / "model.json").write_text(json.dumps(card))
    read: Counter[str] = Counter()
    verified = Bundle.verified_bytes
    monkeypatch.setattr(Bundle, "verified_bytes", lambda self, name: read.update([name]) or verified(self, name))
    text = '[[passes]]\nmodel = "{}"\n{}\n'
    parts = [
        text.format("one.model", ""),
        text.format("./one.model", 'precision = "int8"'),
        text.format("./one.model", ""),
    ]
    opened = _opened(ensemble("threshold = 0.5\n" + "".join(parts)))
    assert read == {"model.onnx": 1, "model.int8.onnx": 1}
    assert sorted(opened.bundles) == ["one.model fp32", "one.model int8"]
    assert [one.precision for one in _passes(opened)] == ["fp32", "int8", "fp32"]


def test_all_that_is_wrong_with_bundles_is_said_at_once(
    bundle: Callable[..., Path], never_exact: Callable[..., Path], ensemble: Callable[[str], Path], tmp_path: Path
) -> None:
    """Missing, changed, without the precision, a tile and a stride that do not fit: one error with a line for each."""
    bundle("exact")
    never_exact("blended")
    (bundle("changed") / "model.onnx").write_bytes(b"other")
    text = """
        threshold = 0.5
        [[passes]]
        model = "missing.model"
        [[passes]]
        model = "changed.model"
        [[passes]]
        model = "exact.model"
        stride = 32
        precision = "int8"
        [[passes]]
        model = "blended.model"
        tile = 384
        [[passes]]
        model = "blended.model"
        stride = 500
        [[passes]]
        model = "missing.model"
        axes = "y"
    """
    with pytest.raises(ModelError) as refused:
        _opened(ensemble(text))
    first, *lines = str(refused.value).split("\n  ")
    assert first == "ensemble: 6 problem(s)"
    assert lines[0].startswith(f"{tmp_path / 'missing.model'}: is no model bundle")
    assert "got sha256" in lines[1]
    assert "holds no int8 ONNX file" in lines[2]
    assert lines[3].startswith("exact.model: got stride = 32, expected none")
    assert lines[4].startswith("blended.model: got tile = 384, expected one of 512")
    assert lines[5].endswith("expected a multiple of 32 up to the tile of 512; try 480")
    assert "sennet-export RUN" in lines[6]
    assert "--models" in lines[6]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[[passes]]\nmodel = 'a'\nstrid = 3", "did you mean 'stride'"),
        ("[[passes]]\nmodel = 'a'\nflips = ['none', 'none']", "expected each flip once"),
        ("[[passes]]\nmodel = 'a'\naxes = 'zz'", "expected some of z, y and x"),
        ("[[passes]]\nmodel = 'a'\nflips = ['diagonal']", "diagonal"),
        ("[[passes]]\nmodel = 'a'\n[[passes]]\nmodel = 'b'", "lacks a threshold"),
        ("threshold = 0.2\n[cascade]\n[[passes]]\nmodel = 'a'", "a second pass to go on to"),
        ("threshold = 0.2", "passes"),
        ("passes = 3", "passes"),
        ("threshold 0.2", "is not valid TOML"),
    ],
)
def test_a_file_that_cannot_be_used_is_a_config_error(
    ensemble: Callable[[str], Path], text: str, expected: str
) -> None:
    """It names the file, the key, and what was expected."""
    with pytest.raises(ConfigError) as refused:
        _opened(ensemble(text))
    assert "ensemble.toml" in str(refused.value)
    assert expected in str(refused.value)


def test_a_missing_file_and_a_file_of_another_kind(tmp_path: Path, identity_bundle: Path) -> None:
    """What is no TOML file is a bundle's folder; `--models` is for TOML files alone."""
    with pytest.raises(ConfigError, match="give the path of a TOML file"):
        _opened(tmp_path / "nowhere.toml")
    with pytest.raises(ModelError, match="is no model bundle"):
        _opened(tmp_path / "nowhere.model")
    with pytest.raises(ConfigError, match="is a file, expected an ensemble"):
        _opened(identity_bundle / "model.onnx")
    for model in (identity_bundle, None):
        with pytest.raises(ConfigError, match="--models"):
            _opened(model, models=tmp_path)


def test_a_cascade_may_not_lose_what_the_models_own_threshold_finds(
    bundle: Callable[..., Path], ensemble: Callable[[str], Path]
) -> None:
    """The threshold is not in the file, so that the file alone cannot tell."""
    bundle("one")
    text = "[cascade]\nlow_bound = {}\n" + '[[passes]]\nmodel = "one.model"\n' * 2
    assert _opened(ensemble(text.format(0.5))).threshold == 0.5
    with pytest.raises(ConfigError, match=r"low_bound: got 0.51, expected at most the model's threshold 0.5"):
        _opened(ensemble(text.format(0.51)))


def test_axes_and_flips_share_the_weight_of_their_pass(
    bundle: Callable[..., Path], ensemble: Callable[[str], Path]
) -> None:
    """The six passes of a network with weight 1 count a third of the single one with weight 3."""
    bundle("many")
    bundle("single")
    text = """
        threshold = 0.5
        [[passes]]
        model = "many.model"
        axes = "xzy"
        flips = ["none", "rows"]
        [[passes]]
        model = "single.model"
        weight = 3
    """
    passes = _passes(_opened(ensemble(text)))
    assert [(one.axis, one.flip, one.weight) for one in passes] == [
        ("z", "none", 1), ("z", "rows", 1), ("y", "none", 1), ("y", "rows", 1), ("x", "none", 1), ("x", "rows", 1),
        ("z", "none", 18),
    ]  # fmt: skip


def test_weights_are_reduced(bundle: Callable[..., Path], ensemble: Callable[[str], Path]) -> None:
    """600 and 400 are 3 and 2: the sums stay within 16 bits."""
    bundle("a")
    bundle("b")
    text = "threshold = 0.5\n" + "".join(
        f'[[passes]]\nmodel = "{n}.model"\nweight = {w}\n' for n, w in (("a", 600), ("b", 400))
    )
    assert _weights(_passes(_opened(ensemble(text)))) == {"a": 3, "b": 2}


def test_opposite_conditions_count_together_as_one(
    never_exact: Callable[..., Path], ensemble: Callable[[str], Path]
) -> None:
    """Along each axis the sides of its own planes decide; another network with three axes counts as much as both."""
    for name in ("small", "large", "other"):
        never_exact(name)
    text = """
        threshold = 0.5
        [[passes]]
        model = "small.model"
        axes = "zyx"
        unless_both_sides_above = 832
        [[passes]]
        model = "large.model"
        axes = "zyx"
        if_both_sides_above = 832
        [[passes]]
        model = "other.model"
        axes = "zyx"
    """
    opened = _opened(ensemble(text))
    passes = _passes(opened, PLANE)
    assert [(one.bundle.card.name, one.axis) for one in passes[:3]] == [("small", "y"), ("small", "x"), ("large", "z")]
    assert _weights(passes) == {"small": 2, "large": 1, "other": 3}
    assert _weights(_passes(opened, (832, 833, 833))) == {"small": 2, "large": 1, "other": 3}
    assert _weights(_passes(opened, (833, 833, 833))) == {"large": 1 * 3, "other": 3}
    assert _weights(_passes(opened, (100, 832, 2000))) == {"small": 3, "other": 3}


def test_no_pass_left_is_an_error(never_exact: Callable[..., Path], ensemble: Callable[[str], Path]) -> None:
    """It names the conditions."""
    never_exact("large")
    opened = _opened(ensemble('[[passes]]\nmodel = "large.model"\naxes = "yx"\nif_both_sides_above = 832'))
    with pytest.raises(ConfigError, match=r"600 × 900 × 1000 .* if_both_sides_above = 832"):
        _passes(opened)


def test_tiles_and_strides_of_networks_that_are_never_exact(
    never_exact: Callable[..., Path], ensemble: Callable[[str], Path]
) -> None:
    """The model's own side and three quarters of it, in whole strides of the network, where the file says nothing."""
    never_exact("a", sides=(448, 832))
    text = "threshold = 0.5\n" + '[[passes]]\nmodel = "a.model"\n{}\n' * 3
    passes = _passes(_opened(ensemble(text.format("", "tile = 832", "tile = 832\nstride = 832"))))
    assert [(one.tile, one.stride) for one in passes] == [(448, 320), (832, 608), (832, 832)]


def test_exact_networks_leave_their_tiles_to_the_plan(
    bundle: Callable[..., Path], ensemble: Callable[[str], Path]
) -> None:
    """Unless the file names one."""
    bundle("a")
    text = "threshold = 0.5\n" + '[[passes]]\nmodel = "a.model"\n{}\n' * 2
    passes = _passes(_opened(ensemble(text.format("", "tile = 64"))))
    assert [(one.tile, one.stride) for one in passes] == [(None, None), (64, None)]


def test_the_scale_of_a_pass(bundle: Callable[..., Path], ensemble: Callable[[str], Path]) -> None:
    """From the voxel sizes; else what the pass says; `--scale` goes before both. It is said whence it comes."""
    bundle("a")
    text = """
        threshold = 0.5
        [[passes]]
        model = "a.model"
        [[passes]]
        model = "a.model"
        scale = 1.5
    """
    opened = _opened(ensemble(text))
    size = (100.0, 75.0, 50.0)
    by_size, by_file = _passes(opened, voxel_size_um=size)
    assert (by_size.scale, by_file.scale) == ((1.5, 1.0), (1.5, 1.5))
    assert "75 × 50 µm voxels into a model of 50 µm" in by_size.scale_reason
    assert "the ensemble says so" in by_file.scale_reason
    both = _passes(opened, voxel_size_um=size, scale_override=0.5)
    assert [one.scale for one in both] == [(0.5, 0.5)] * 2
    assert all("--scale says so" in one.scale_reason for one in both)


def test_passes_have_names_that_tell_them_apart(
    never_exact: Callable[..., Path], ensemble: Callable[[str], Path]
) -> None:
    """Model, axis, tile, flip and scale."""
    never_exact("a", sides=(384, 512))
    text = """
        threshold = 0.5
        [[passes]]
        model = "a.model"
        axes = "zx"
        flips = ["none", "rows", "both"]
        [[passes]]
        model = "a.model"
        tile = 384
        scale = 1.2616
    """
    names = [one.name for one in _passes(_opened(ensemble(text)))]
    assert len(set(names)) == len(names) == 7
    assert names[1] == "a z, rows flipped"
    assert names[5] == "a x, both flipped"
    assert names[6] == "a z, tiles of 384, 1.26 times as large"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_ensembles_fit_the_bundles_that_their_head_tells_how_to_make(
    never_exact: Callable[..., Path], path: Path, tmp_path: Path
) -> None:
    """Every key is known, every tile and stride fits, each network counts the same, whatever the volume's sides."""
    stages = {stage["name"] for stage in tomllib.loads(RECIPE.read_text())["stages"]}
    for name, sides in EXPORTED.items():
        assert name in stages
        never_exact(name, sides=sides)
    opened = _opened(path, models=tmp_path)
    assert opened.name == path.stem
    for shape_zyx in (PLANE, (100, 200, 300), (1012, 1330, 1598)):
        passes = _passes(opened, shape_zyx, voxel_size_um=(63.08,) * 3)
        counted: dict[str, int] = {}
        for name, weight in _weights(passes).items():
            family = name.removesuffix("_832")
            counted[family] = counted.get(family, 0) + weight
        assert len(set(counted.values())) == 1
        for one in passes:
            assert one.bundle.path.name.startswith("builtin") or one.scale == (1.0, 1.0)


def test_the_third_places_submissions_say_what_they_computed(never_exact: Callable[..., Path], tmp_path: Path) -> None:
    """One MaxViT along 3 axes with 3 flips at 0.2; four models, each a quarter, with 832 where both sides exceed it."""
    folder = SHIPPED[0].parent
    for name, sides in EXPORTED.items():
        never_exact(name, sides=sides)
    single = _opened(folder / "third_place_maxvit.toml", models=tmp_path)
    passes = _passes(single)
    assert (single.threshold, len(passes)) == (0.2, 9)
    assert {(one.tile, one.stride, one.weight) for one in passes} == {(512, 512, 1)}
    four = _opened(folder / "third_place_four_models.toml", models=tmp_path)
    passes = _passes(four, (501, 1028, 1257))
    total = sum(one.weight for one in passes)
    shares = {name: Fraction(weight, total) for name, weight in _weights(passes).items()}
    assert four.threshold == 0.2
    assert shares.pop("final_efficientnet_s") + shares.pop("final_efficientnet_s_832") == Fraction(1, 4)
    assert set(shares.values()) == {Fraction(1, 4)}
    assert {one.axis for one in passes if one.tile == 832} == {"z"}
    two = _opened(folder / "third_place_seresnext.toml", models=tmp_path)
    assert {(one.tile, one.stride, one.weight) for one in _passes(two)} == {(384, 288, 1), (512, 384, 1)}
