"""Two processes on a CPU train one network together."""

import json
import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import tifffile
import torch
from safetensors.torch import load_file

from sennet_engine.errors import ConfigError
from sennet_trainer.checkpoint import load_tensors
from sennet_trainer.fit import fit
from sennet_trainer.parts import check_parts, steps_of
from sennet_trainer.run_folder import load_run
from sennet_trainer.settings import FitSettings

from .conftest import CPU, TINY_NETWORK, Silent, tubes_zyx

# Without batch norm, and with a loss that is a mean over pixels, parts add up to the whole.
PLAIN_NETWORK: dict[str, Any] = {
    "encoder": "tu-test_convnext",
    "encoder_depth": 4,
    "decoder_options": {"decoder_channels": [16, 8, 8, 8], "decoder_use_norm": "identity"},
}
# The last of three steps has two crops only.
UNEVEN: dict[str, Any] = {"side": 64, "per_epoch": 10}

BOTH = """
    import json, sys, warnings
    warnings.simplefilter("error")
    sys.path.insert(0, TESTS)
    from pathlib import Path
    from conftest import CPU, Silent
    from safetensors.torch import save_file
    import sennet_trainer.fit
    from sennet_engine.errors import SennetError
    from sennet_trainer.processes import leave_processes, process_index
    from sennet_trainer.settings import FitSettings

    folder, made = Path(sys.argv[1]), []
    initial_state = sennet_trainer.fit.initial_state
    sennet_trainer.fit.initial_state = lambda *a, **k: made.append(initial_state(*a, **k)) or made[-1]
    outcomes = {}
    for path in sorted(folder.glob("*.json")):
        settings, observer = FitSettings.model_validate_json(path.read_text()), Silent()
        try:
            progress = sennet_trainer.fit.fit(settings, folder / path.stem, device=CPU, observer=observer)
        except SennetError as error:
            outcomes[path.stem] = {"error": f"{type(error).__name__}: {error}"}
            continue
        outcomes[path.stem] = {"told": observer.losses, "losses": [row.loss for row in progress.rows]}
        for name, network in (("network", made[-1].segmenter), ("average", made[-1].average)):
            if network is not None:
                tensors = {key: value.contiguous() for key, value in network.state_dict().items()}
                save_file(tensors, folder / f"{path.stem}.{name}.{process_index()}")
    (folder / f"outcomes.{process_index()}").write_text(json.dumps(outcomes))
    made.clear()
    leave_processes()
"""


def settings_on(folder: Path, **changes: Any) -> FitSettings:
    volumes = [
        {"images": folder / f"{role}.tif", "labels": folder / f"{role}_labels.tif", "axes": "z", "role": role}
        for role in ("train", "validation")
    ]
    table: dict[str, Any] = {"name": "two", "voxel_size_um": 50.0, "network": TINY_NETWORK, "volumes": volumes}
    return FitSettings.model_validate(table | changes)


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which two processes have trained all that is looked at below."""
    folder = tmp_path_factory.mktemp("together")
    for seed, role in enumerate(("train", "validation")):
        grey, labels = tubes_zyx(seed)
        tifffile.imwrite(folder / f"{role}.tif", grey)
        tifffile.imwrite(folder / f"{role}_labels.tif", labels)
    training = {"epochs": 2, "batch": 4, "learning_rate": 3e-3}
    runs = {
        "averaged": settings_on(
            folder, crops={"side": 64, "per_epoch": 32}, training=training | {"epochs": 5, "ema": 0.9}
        ),
        "plain": settings_on(
            folder, network=PLAIN_NETWORK, crops=UNEVEN, training=training | {"loss": "bce", "accumulate": 2}
        ),
        "odd": settings_on(folder, crops=UNEVEN, training=training | {"batch": 3}),
        "nothing": settings_on(folder, volumes=[{"images": folder / "none.tif", "labels": folder / "none.tif"}]),
    }
    for name, settings in runs.items():
        (folder / f"{name}.json").write_text(settings.model_dump_json())
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free.getsockname()[1])}
    script = f"TESTS = {str(Path(__file__).parent)!r}\n" + textwrap.dedent(BOTH)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(folder)],
            env=os.environ
            | address
            | {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)
    return folder


def outcomes_of(together: Path) -> list[Any]:
    return [json.loads((together / f"outcomes.{rank}").read_text()) for rank in "01"]


@pytest.mark.parametrize("name", ["averaged.network", "averaged.average", "plain.network"])
def test_both_processes_end_with_the_same_network(together: Path, name: str) -> None:
    """Weights and batch-norm statistics, and their averages, to the bit."""
    main, other = (load_file(together / f"{name}.{rank}") for rank in "01")
    assert main.keys() == other.keys()
    assert all(torch.equal(main[key], other[key]) for key in main)


def test_together_the_loss_goes_down(together: Path) -> None:
    """Both processes know the loss of the whole batch; only the main one tells it."""
    main, other = (outcomes["averaged"] for outcomes in outcomes_of(together))
    assert main["losses"] == other["losses"]
    assert main["losses"][-1] < 0.9 * main["losses"][0]
    assert len(main["told"]) == 40
    assert other["told"] == []


def test_two_processes_leave_the_run_that_one_leaves(together: Path) -> None:
    """Complete, with a network that its validation scored."""
    trained = load_run(together / "averaged")
    assert trained.complete
    assert trained.scores
    assert {path.name for path in (together / "averaged").iterdir()} == {
        "run.json", "checkpoint.safetensors", "network.safetensors", "metrics.csv", "curve.png", "cache",
        ".lock",
    }  # fmt: skip


def test_parts_of_two_processes_add_up_to_the_whole_batch(together: Path, tmp_path: Path) -> None:
    """Two processes with two parts each train as one process does with the whole batch, up to rounding.

    That holds where nothing looks at several crops at once, as batch norm and soft Dice do.
    """
    settings = settings_on(
        together,
        network=PLAIN_NETWORK,
        crops=UNEVEN,
        training={"epochs": 2, "batch": 4, "learning_rate": 3e-3, "loss": "bce"},
    )
    alone = Silent()
    fit(settings, tmp_path / "alone", device=CPU, observer=alone)
    told = outcomes_of(together)[0]["plain"]["told"]
    assert told == pytest.approx(alone.losses, rel=1e-3)
    assert len(told) == 6
    whole, _ = load_tensors(tmp_path / "alone" / "checkpoint.safetensors")
    parts, _ = load_tensors(together / "plain" / "checkpoint.safetensors")
    weights = [name for name in whole if name.startswith("network.")]
    apart = torch.cat([(whole[name] - parts[name]).flatten() for name in weights]).norm()
    assert apart < 1e-2 * torch.cat([whole[name].flatten() for name in weights]).norm()


def test_parts_in_turn_add_up_to_the_whole_batch(together: Path, tmp_path: Path) -> None:
    """accumulate = 4 in one process trains as the whole batch does, up to rounding; also in the shorter last step."""
    losses = []
    for accumulate in (1, 4):
        training = {"epochs": 1, "batch": 4, "learning_rate": 3e-3, "loss": "bce", "accumulate": accumulate}
        settings = settings_on(together, network=PLAIN_NETWORK, crops=UNEVEN, training=training)
        observer = Silent()
        fit(settings, tmp_path / str(accumulate), device=CPU, observer=observer)
        losses.append(observer.losses)
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert losses[1] != losses[0]  # the parts were taken one by one


def test_what_the_main_process_finds_is_every_process_s_error(together: Path) -> None:
    """So no process waits for one that has ended; nothing is left behind."""
    for outcomes in outcomes_of(together):
        assert outcomes["nothing"]["error"].startswith("VolumeError")
        assert "none.tif" in outcomes["nothing"]["error"]
        assert outcomes["odd"]["error"].startswith("ConfigError: training.batch: got 3, expected a multiple of 2")
    assert not (together / "nothing").exists()


@pytest.mark.parametrize(("processes", "accumulate"), [(1, 1), (1, 4), (2, 2), (4, 1)])
def test_every_crop_is_in_one_part_and_counts_as_much_as_any_other(
    together: Path, processes: int, accumulate: int
) -> None:
    """In the order of the epoch, step by step; full steps have equal parts."""
    training = {"batch": 8, "accumulate": accumulate}
    settings = settings_on(together, crops={"side": 64, "per_epoch": 30}, training=training)
    shares = [steps_of(settings, process=one, processes=processes) for one in range(processes)]
    seen = []
    for number, step in enumerate(zip(*shares, strict=True)):
        parts = [part for share in step for part in share]
        crops = sum(len(part.crops) for part in parts)
        seen += [crop for part in parts for crop in part.crops]
        assert [share[-1].last for share in step] == [True] * processes
        assert sum(part.last for part in parts) == processes
        for part in parts:
            assert part.weight / processes == pytest.approx(len(part.crops) / crops)
        if number < 3:
            assert {len(part.crops) for part in parts} == {8 // processes // accumulate}
    assert seen == list(range(30))


def test_last_step_needs_a_crop_for_each_process(together: Path) -> None:
    """One crop cannot be shared by two; the message names a number that fits."""
    settings = settings_on(together, crops={"side": 64, "per_epoch": 9}, training={"batch": 4})
    check_parts(settings, processes=1)
    with pytest.raises(ConfigError, match=r"leaves 1 for the last step, .* try per_epoch = 12"):
        check_parts(settings, processes=2)
