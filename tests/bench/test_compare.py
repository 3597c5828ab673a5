"""`sennet-bench compare`: contestants in turns on the same planes."""

import json
from dataclasses import replace

import numpy as np
import pytest
import tifffile

from sennet_bench.compare.measurement import CompareSettings, compare
from sennet_bench.compare.ratios import ratios
from sennet_bench.compare.table import compare_table
from sennet_bench.made_bundles import write_small_bundle
from sennet_bench.made_volume import write_made_volume
from sennet_bench.measurements import write_measurement
from sennet_bench.peers.child import ContestantError, Run, run_here, run_in_child
from sennet_bench.peers.contestant import Contestant, Job, Outcome
from sennet_bench.peers.table import CONTESTANTS, chosen_contestants
from sennet_engine.bundle import BUILTIN
from sennet_engine.results.stack_writer import StackWriter
from sennet_trainer.phantom import PhantomSettings, make_phantom

# No multiples of the stride, so that whole planes have to be padded.
SHAPE = (2, 500, 520)
RUNNABLE = [one for one in CONTESTANTS.values() if not one.obstacle]
# int8 is left out: the trial of its runtimes takes longer than all the others together.
QUICK = [one for one in RUNNABLE if not one.compiles and one.name != "sennet-int8"]
COMPILED = [one for one in RUNNABLE if one.compiles]
ENGINE, LOOP = replace(CONTESTANTS["sennet"], remembers=False), CONTESTANTS["torch-loop"]


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    """Two planes of a phantom and their truth, in a folder."""
    folder = tmp_path_factory.mktemp("phantom")
    made = make_phantom(PhantomSettings(SHAPE, 1, seed=4))
    tifffile.imwrite(folder / "image.tif", made.image, photometric="minisblack")
    tifffile.imwrite(folder / "labels.tif", made.labels, photometric="minisblack")
    return folder


@pytest.fixture(scope="module")
def compared(phantom):
    """All contestants that can run here and compile nothing, once, in this process."""
    settings = CompareSettings(phantom / "image.tif", BUILTIN, phantom / "labels.tif", repeats=1, threads=1)
    return compare(settings, QUICK, run=run_here)


def entry_of(comparison, name):
    """What `name` did."""
    return next(one for one in comparison.entries if one.name == name)


def assert_as_good(ours, other):
    """A contestant's mask holds what the engine's holds, within a twentieth, and is as near to the truth."""
    assert other.problem is None
    assert other.vessel_share == pytest.approx(ours.vessel_share, rel=0.05)
    assert other.surface_dice_0 == pytest.approx(ours.surface_dice_0, abs=0.05)
    assert ours.surface_dice_0 > 0.5


@pytest.mark.parametrize("name", [one.name for one in QUICK])
def test_all_find_about_the_same_vessels(compared, name):
    """The same network, so about the same mask."""
    assert_as_good(entry_of(compared, "sennet"), entry_of(compared, name))


@pytest.mark.parametrize("name", ["torch-best", "monai-best", "onnxruntime-best", "openvino-float32"])
def test_whole_planes_give_the_engines_own_mask(phantom, compared, name):
    """The built-in network is exact on tiles of any size: but for rounding, whole planes give what the engine gives."""
    share = _without_compiling(phantom, name).mean()
    assert share == pytest.approx(entry_of(compared, "sennet").vessel_share, rel=1e-3)


def test_bfloat16_finds_nearly_the_same(phantom):
    """It rounds more, so a few voxels differ; that some do shows that it was in use."""
    exact, rounded = (_without_compiling(phantom, name) for name in ("torch-best", "torch-bfloat16"))
    assert 0 < (exact != rounded).sum() < 0.05 * exact.sum()


def _without_compiling(phantom, name):
    job = Job(phantom / "image.tif", BUILTIN, phantom / "best.tif", threads=1)
    one = CONTESTANTS[name]
    run_here(replace(one, options={key: value for key, value in one.options.items() if key != "compiled"}), job)
    return tifffile.imread(job.mask) != 0


def test_tiles_are_averaged_as_in_the_torch_loop(compared):
    """A bare runtime over the same tiles gives the same mean, but for the rounding to grey levels."""
    loop, bare = entry_of(compared, "torch-loop"), entry_of(compared, "onnxruntime")
    assert bare.vessel_share == pytest.approx(loop.vessel_share, rel=5e-3)


@pytest.mark.slow
@pytest.mark.parametrize("one", COMPILED, ids=lambda one: one.name)
def test_compiled_networks_find_the_same_vessels(phantom, compared, one):
    """torch.compile, in processes of their own; what the first run compiled is found again by the next one."""
    settings = CompareSettings(phantom / "image.tif", BUILTIN, phantom / "labels.tif", repeats=1)
    entry = entry_of(compare(settings, [one]), one.name)
    assert_as_good(entry_of(compared, "sennet"), entry)
    assert entry.samples[0].load_seconds < entry.first_load_seconds


def test_peers_are_among_them():
    """They are installed for development, so the tests above run the real ones."""
    assert {"monai-0.5", "monai-0.25", "onnxruntime", "openvino", "torch-loop"} <= {one.name for one in QUICK}


def test_without_a_compiler_torch_compile_tells_what_to_do(monkeypatch, small_volume):
    """Before anything runs; the others go on."""
    monkeypatch.setenv("CXX", "no-such-compiler")
    run, calls = pretending({"sennet": [1.0]})
    settings = CompareSettings(small_volume, BUILTIN, repeats=1)
    found = compare(settings, [ENGINE, CONTESTANTS["torch-compile"]], run=run)
    assert entry_of(found, "torch-compile").problem.startswith("no C++ compiler: torch.compile needs no-such-compiler")
    assert calls == ["sennet"]


def test_settings_and_a_sentence_of_each_stand_in_the_file(tmp_path, small_volume):
    """What a contestant did is told by the JSON alone."""
    run, _ = pretending({"sennet": [1.0], "monai-0.25": [2.0]})
    found = compare(CompareSettings(small_volume, BUILTIN, repeats=1), [ENGINE, CONTESTANTS["monai-0.25"]], run=run)
    write_measurement(tmp_path / "found.json", found)
    kept = json.loads((tmp_path / "found.json").read_text())["entries"][1]
    assert kept["options"] == {"overlap": 0.25}
    assert kept["does"].startswith("Windows of 512 that overlap by a quarter")
    assert all(one.does.endswith(".") for one in CONTESTANTS.values())


def pretending(seconds, *, fail=()):
    """A way to run contestants that takes no time: each claims `seconds[name]`, once for each round."""
    calls = []

    def run(contestant, job):
        calls.append(contestant.name)
        if contestant.name in fail:
            raise ContestantError(f"{contestant.title}: out of memory")
        with StackWriter(job.mask, shape_zyx=(2, 8, 8), voxel_size_um=None) as writer:
            writer.append(np.full((2, 8, 8), 255, np.uint8))
        claimed = seconds[contestant.name][calls.count(contestant.name) - 1]
        return Run(Outcome(claimed, 1.0, {"compute": claimed}), cpu_seconds=2 * claimed, peak_mb=100.0)

    return run, calls


@pytest.fixture
def small_volume(tmp_path):
    """Five planes, each of one grey level."""
    path = tmp_path / "volume.tif"
    planes = np.broadcast_to(np.arange(5, dtype=np.uint8)[:, None, None], (5, 8, 8))
    tifffile.imwrite(path, planes, photometric="minisblack")
    return path


def test_a_first_run_that_others_learn_from_is_not_counted(small_volume):
    """Its loading is told apart, and ratios are those of the rounds."""
    run, calls = pretending({"sennet": [9.0, 1.0], "torch-loop": [3.0]})
    found = compare(CompareSettings(small_volume, BUILTIN, repeats=1), [CONTESTANTS["sennet"], LOOP], run=run)
    assert calls == ["sennet", "sennet", "torch-loop"]
    assert ratios(found, "torch-loop", "sennet") == [3.0]
    assert entry_of(found, "sennet").first_load_seconds == 1.0
    assert "with loading it took: sennet, fp32 1.0 s" in compare_table(found).markdown()


def test_contestants_take_turns_and_ratios_are_those_of_a_round(small_volume):
    """A B A B; the ratio is the median of the rounds' own ratios, not the ratio of the medians."""
    run, calls = pretending({"sennet": [1.0, 2.0, 4.0], "torch-loop": [3.0, 2.0, 40.0]})
    found = compare(CompareSettings(small_volume, BUILTIN, repeats=3, planes=2), [ENGINE, LOOP], run=run)
    assert calls == ["sennet", "torch-loop"] * 3
    assert ratios(found, "torch-loop", "sennet") == [3.0, 1.0, 10.0]
    assert ratios(found, "torch-loop", "sennet", with_load=True) == [2.0, 1.0, 8.2]
    row = next(line for line in compare_table(found).markdown().splitlines() if LOOP.title in line)
    assert "| 3.00 (2.00 to 40.00) | 1.00 | 6.00 |" in row
    assert "| 3.00 (1.00 to 10.00) | 2.00 (1.00 to 8.20) | – |" in row


def test_all_see_the_middle_planes(small_volume):
    """Two of five planes: the second and the third."""
    seen = []

    def run(contestant, job):
        seen.append(tifffile.imread(job.volume)[:, 0, 0].tolist())
        return pretending({"sennet": [1.0]})[0](contestant, job)

    assert compare(CompareSettings(small_volume, BUILTIN, repeats=1, planes=2), [ENGINE], run=run).shape_zyx[0] == 2
    assert seen == [[1, 2]]


def test_what_is_missing_or_fails_stands_in_the_table(small_volume):
    """One line for each, with what to do or what went wrong; the others go on."""
    missing = Contestant("ghost", "A ghost", "no.such.module", ("no_such_package",))
    run, calls = pretending({"sennet": [1.0, 1.0]}, fail=("torch-loop",))
    settings = CompareSettings(small_volume, BUILTIN, repeats=2, planes=2)
    table = compare_table(compare(settings, [ENGINE, missing, LOOP], run=run)).markdown()
    assert "| A ghost | not installed: pip install 'sennet[bench]' |" in table
    assert "out of memory" in table
    assert calls == ["sennet", "torch-loop", "sennet"]
    columns = {line.count("|") for line in table.splitlines() if line.startswith("|")}
    assert len(columns) == 1


def test_without_a_measurement_of_memory_or_truth_there_is_a_dash(small_volume):
    """Systems that do not tell the peak, and volumes without truth, leave their cells open."""
    run, _ = pretending({"sennet": [1.0]})
    found = compare(CompareSettings(small_volume, BUILTIN, repeats=1), [ENGINE],
                    run=lambda one, job: replace(run(one, job), peak_mb=None))  # fmt: skip
    row = next(line for line in compare_table(found).markdown().splitlines() if ENGINE.title in line)
    assert row.endswith("| – | – | – |")


def test_tables_are_made_from_the_json(command, tmp_path, small_volume):
    """`table` prints what `compare` printed, and fills the tables that a document marks."""
    run, _ = pretending({"sennet": [1.0, 2.0], "torch-loop": [3.0, 5.0]})
    found = compare(CompareSettings(small_volume, BUILTIN, repeats=2), [ENGINE, LOOP], run=run)
    write_measurement(tmp_path / "found.json", found)
    printed = command("sennet-bench", "table", tmp_path / "found.json")
    assert printed.code == 0
    assert printed.out.strip() == compare_table(found).markdown()
    document = tmp_path / "speed.md"
    document.write_text("before\n<!-- table found.json -->\nold\n<!-- /table -->\nafter\n")
    for _ in range(2):  # a second time changes nothing
        assert command("sennet-bench", "table", document).code == 0
        expected = f"before\n<!-- table found.json -->\n\n{compare_table(found).markdown()}\n\n<!-- /table -->\nafter\n"
        assert document.read_text() == expected


def test_a_file_that_is_no_measurement_is_refused(command, tmp_path):
    """Exit code 2 and the file's name."""
    (tmp_path / "x.json").write_text('{"kind": "compare"}')
    ran = command("sennet-bench", "table", tmp_path / "x.json")
    assert ran.code == 2
    assert "x.json: is no measurement" in ran.err


def test_the_command_runs_contestants_in_processes_of_their_own(command, tmp_path):
    """The engine with its score and its own peak memory; int8 of a bundle without it fails, and the table tells why."""
    model = write_small_bundle(tmp_path / "small.model")
    volume, truth = write_made_volume(tmp_path / "volume.tif", (3, 256, 256)), tmp_path / "truth.tif"
    tifffile.imwrite(truth, (tifffile.imread(volume) > 190).astype(np.uint8), photometric="minisblack")
    options = ["--truth", truth, "--model", model, "--repeats", "1", "--planes", "2", "--peer", "sennet-int8"]
    ran = command("sennet-bench", "compare", volume, *options, "--json", tmp_path / "c.json")
    assert ran.code == 0, ran.err
    kept = json.loads((tmp_path / "c.json").read_text())
    assert kept["shape_zyx"] == [2, 256, 256]
    engine, int8 = kept["entries"]
    assert engine["dice"] > 0.7
    peak = engine["samples"][0]["peak_mb"]
    assert peak is None or 50 < peak < 500  # that of this process, with torch in it, is higher
    assert int8["samples"] == []
    assert "holds no int8" in int8["problem"]
    assert int8["problem"] in ran.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--peer", "mona"], "expected some of sennet, sennet-int8, torch-loop, torch-compile"),
        (["--repeats", "0"], "expected 1 or more"),
        (["--truth", "TWO"], "got shape (2, 8, 8), expected (5, 8, 8)"),
    ],
)
def test_bad_values_end_in_one_clear_line(command, tmp_path, small_volume, options, message):
    """Exit code 2, before anything ran."""
    two = tmp_path / "two.tif"
    tifffile.imwrite(two, np.zeros((2, 8, 8), np.uint8), photometric="minisblack")
    ran = command("sennet-bench", "compare", small_volume, *(two if one == "TWO" else one for one in options))
    assert ran.code == 2
    assert message in ran.err


def test_a_contestant_that_fails_in_its_process_tells_why(tmp_path):
    """The last line of its stderr reaches the caller."""
    with pytest.raises(ContestantError, match=r"no-such-file\.tif"):
        run_in_child(ENGINE, Job(tmp_path / "no-such-file.tif", BUILTIN, tmp_path / "mask.tif", 1))


def test_the_engine_is_always_chosen():
    """It is what the others are compared with."""
    assert [one.name for one in chosen_contestants(["nnunet"])] == ["sennet", "nnunet"]
