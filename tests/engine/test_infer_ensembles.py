"""`sennet-infer --model ENSEMBLE.toml`: passes along all axes, mirrored, at scales and with weights, are averaged."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import tifffile
from PIL import Image

from sennet_trainer.phantom.phantom import PhantomSettings, make_phantom

SHIPPED = Path(__file__).parents[2] / "ensembles"
SHAPE = (16, 48, 64)


@pytest.fixture
def noise(write_volume):
    """[16, 48, 64] uint8, sides that are multiples of the stride; seen through the window 0 to 255 as it is."""
    stack = np.random.default_rng(1).integers(0, 256, SHAPE, dtype=np.uint8)
    write_volume(stack)
    return stack


@pytest.fixture
def ensemble(tmp_path):
    """Write an ensemble beside the bundles."""

    def write(text, name="ensemble.toml"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return write


@pytest.fixture
def infer(command, noise, tmp_path, summary):
    """Run an ensemble over the noise: its mean probability 0..255, and the summary."""

    def run(model, *options):
        out = tmp_path / "out"
        ran = command(
            "sennet-infer", tmp_path / "volume.tif", "--model", model, "--out", out, "--window", "0,255", "--overwrite",
            "--probability", "--no-skip", "--runtime", "onnxruntime", *options,
        )  # fmt: skip
        assert ran.code == 0, ran.err
        return tifffile.imread(out / "probability.tif"), summary(out)

    return run


@pytest.fixture
def answers(strided_bundle):
    """What the strided network says to the planes of a [Z, Y, X] array along an axis, whole and one at a time."""
    session = onnxruntime.InferenceSession(strided_bundle / "model.onnx")

    def run(stack, axis="z"):
        planes = np.moveaxis(stack, "zyx".index(axis), 0)
        answered = [session.run(None, {"tiles": plane[None, None]})[0][0, 0] for plane in planes.copy()]
        return np.moveaxis(np.stack(answered), 0, "zyx".index(axis))

    return run


def mean_of(*weighted):
    """Of [Z, Y, X] probabilities with their weights, rounded half up."""
    total = sum(weight for weight, _ in weighted)
    sums = sum(weight * answer.astype(np.int64) for weight, answer in weighted)
    return (2 * sums + total) // (2 * total)


def test_axes_share_the_weight_of_their_pass(infer, ensemble, strided_bundle, identity_bundle, noise, answers):
    """The strided network along z counts twice, the identity along all axes once in all; no plane is lost."""
    model = ensemble(
        'threshold = 0.4\n[[passes]]\nmodel = "strided.model"\nweight = 2\n'
        '[[passes]]\nmodel = "identity.model"\naxes = "zyx"\n'
    )
    probability, told = infer(model)
    assert (probability == mean_of((2, answers(noise)), (1, noise))).all()
    assert told["passes"] == {"strided z": 6, "identity z": 1, "identity y": 1, "identity x": 1}
    assert told["threshold"] == 0.4
    assert set(told["runtimes"]) == {"strided.model fp32", "identity.model fp32"}
    assert {name.split("/")[0] for name in told["model_files"]} == {"strided.model", "identity.model"}


def test_planes_along_y_and_x_are_seen_as_planes(infer, ensemble, strided_bundle, noise, answers):
    """Each axis by itself, and the mean of the three; the mask is that mean at the threshold."""
    for axis in "yx":
        probability, _ = infer(ensemble(f'[[passes]]\nmodel = "strided.model"\naxes = "{axis}"\n'))
        assert (probability == answers(noise, axis)).all()
    probability, told = infer(ensemble('threshold = 0.55\n[[passes]]\nmodel = "strided.model"\naxes = "zyx"\n'))
    summed = sum(answers(noise, axis).astype(int) for axis in "zyx")
    assert (probability == mean_of(*((1, answers(noise, axis)) for axis in "zyx"))).all()
    mask = tifffile.imread(Path(told["output"]) / "mask.tif") > 0
    assert (mask == (summed * 1000 >= 550 * 255 * 3)).all()
    assert 0.02 < mask.mean() < 0.98


def test_flips_are_undone(infer, ensemble, strided_bundle, noise, answers):
    """The network sees mirrored planes, and its answers are mirrored back."""
    probability, _ = infer(
        ensemble('[[passes]]\nmodel = "strided.model"\nflips = ["none", "rows", "columns", "both"]\n')
    )
    ways = [np.s_[:], np.s_[:, ::-1], np.s_[:, :, ::-1], np.s_[:, ::-1, ::-1]]
    expected = mean_of(*((1, answers(noise[way])[way]) for way in ways))
    assert (probability == expected).all()
    assert (probability != answers(noise)).any()


def test_a_pass_has_its_own_scale(infer, ensemble, identity_bundle, noise):
    """One pass at twice the size beside one as it is; --scale overrides both."""
    model = ensemble(
        'threshold = 0.5\n[[passes]]\nmodel = "identity.model"\nscale = 2.0\n[[passes]]\nmodel = "identity.model"\n'
    )
    large = [Image.fromarray(plane).resize((128, 96), Image.Resampling.BICUBIC) for plane in noise]
    back = np.stack([plane.resize((64, 48), Image.Resampling.BOX) for plane in large])
    probability, told = infer(model)
    assert (probability == mean_of((1, back), (1, noise))).all()
    assert any("magnified 2 times" in line for line in told["plan"])
    assert (back != noise).any()
    probability, _ = infer(model, "--scale", 1)
    assert (probability == noise).all()


def test_tiles_of_networks_that_are_never_exact_are_blended(infer, ensemble, identity_bundle, noise):
    """Where all tiles agree, the blend is what they say. Their side and stride are those of the ensemble."""
    card = json.loads((identity_bundle / "model.json").read_text())
    card["tiling"]["exact"] = False
    (identity_bundle / "model.json").write_text(json.dumps(card))
    probability, told = infer(ensemble('[[passes]]\nmodel = "identity.model"\ntile = 32\nstride = 16\n'))
    assert (probability == noise).all()
    assert any("6 tiles of 32 x 32" in line and "tiles are blended" in line for line in told["plan"])
    assert told["tiles"] == 6 * 16


def test_a_cascade_goes_on_only_where_the_first_pass_saw_something(
    infer, ensemble, identity_bundle, strided_bundle, write_volume, noise, answers
):
    """Every other plane is dark: the second network is not asked there, and the summary counts it."""
    noise[::2] //= 8
    write_volume(noise)
    model = ensemble(
        "threshold = 0.5\n[cascade]\nlow_bound = 0.2\n"
        '[[passes]]\nmodel = "identity.model"\n[[passes]]\nmodel = "strided.model"\n'
    )
    probability, told = infer(model)
    second = answers(noise)
    second[::2] = 0
    assert (probability == mean_of((1, noise), (1, second))).all()
    assert (told["tiles"], told["tiles_not_gone_on"]) == (16 + 8, 8)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[[passes]]\nmodel = "gone.model"\n', "gone.model"),
        ('[[passes]]\nmodle = "identity.model"\n', "did you mean 'model'"),
        ('[[passes]]\nmodel = "identity.model"\naxes = "zz"\n', "expected some of z, y and x, each once"),
        ('[[passes]]\nmodel = "identity.model"\nflips = ["rows", "rows"]\n', "expected each flip once"),
        ('[[passes]]\nmodel = "identity.model"\ntile = 48\n', "got tile = 48, expected one of 32, 64, 128"),
        ('[[passes]]\nmodel = "identity.model"\nscale = 50.0\n', "scale"),
        ('[[passes]]\nmodel = "identity.model"\nif_both_sides_above = 1000\n', "no pass is left"),
        ('[[passes]]\nmodel = "identity.model"\n[[passes]]\nmodel = "strided.model"\n', "lacks a threshold"),
        ("passes = []\n", "passes"),
        ("[[passes]\n", "ensemble.toml"),
    ],
)
def test_an_ensemble_that_cannot_be_used_is_refused(
    refused, noise, ensemble, identity_bundle, strided_bundle, tmp_path, text, expected
):
    """With what was got, and what is possible."""
    refused([tmp_path / "volume.tif", "--model", ensemble(text)], expected)


def test_bundles_are_found_in_the_folder_that_is_named(command, refused, noise, tmp_path, identity_bundle):
    """By --models; without it they lie beside the ensemble, and the error says so."""
    (tmp_path / "elsewhere").mkdir()
    model = tmp_path / "elsewhere" / "ensemble.toml"
    model.write_text('[[passes]]\nmodel = "identity.model"\n')
    refused([tmp_path / "volume.tif", "--model", model], "--models FOLDER")
    refused([tmp_path / "volume.tif", "--model", identity_bundle, "--models", tmp_path], "give one by --model")
    assert command("sennet-infer", tmp_path / "volume.tif", "--model", model, "--models", tmp_path).code == 0


def test_the_shipped_ensemble_of_three_axes_finds_more(command, write_volume, tmp_path, summary):
    """On a small phantom the built-in model along z, y and x is nearer to the truth than along z alone."""
    phantom = make_phantom(PhantomSettings((40, 160, 144), kidney=1, seed=3))
    volume, dice = write_volume(phantom.image), []
    for model in ("builtin", SHIPPED / "builtin_three_axes.toml"):
        out = tmp_path / f"out_{len(dice)}"
        ran = command("sennet-infer", volume, "--model", model, "--out", out)
        assert ran.code == 0, ran.err
        mask, truth = tifffile.imread(out / "mask.tif") > 0, phantom.labels > 0
        dice.append(2 * np.count_nonzero(mask & truth) / (np.count_nonzero(mask) + np.count_nonzero(truth)))
    assert dice[1] > dice[0] + 0.03
    assert dice[1] > 0.8
    assert summary(out)["passes"] == {"builtin z": 1, "builtin y": 1, "builtin x": 1}
    assert summary(out)["model"] == "builtin_three_axes"
