"""What is settled before a run starts does not depend on what was tried for it."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tifffile

CHILD = """
import json, sys
from pathlib import Path
import sennet_engine.trial
from sennet_engine.infer import dry_run
from sennet_engine.settings import InferSettings
from sennet_engine.trial_memory import TrialMemory

sennet_engine.trial.OtherPrograms.were_busy = lambda _: False  # what is found is remembered, whatever the machine does
volume, model, trials = map(Path, sys.argv[1:])
estimate, ready = dry_run(volume, InferSettings(model=model, runtime="onnxruntime", trials=TrialMemory(trials)))
print(json.dumps([estimate.memory_bytes, [one.remembered for one in ready.choices.values()]]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the memory is read from /proc")
def test_a_trial_hides_nothing_of_a_models_memory(tmp_path, identity_bundle):
    """The memory of a run is estimated as high after a trial in the same process as where one is remembered."""
    stack = np.random.default_rng(0).integers(0, 256, (48, 256, 256), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "volume.tif", stack, photometric="minisblack")
    program = [sys.executable, "-c", CHILD, tmp_path / "volume.tif", identity_bundle, tmp_path / "trials.json"]
    found = [
        json.loads(subprocess.run(program, capture_output=True, check=True, text=True).stdout) for _ in range(2)
    ]  # fmt: skip
    (tried, fresh), (recalled, remembered) = found
    assert (fresh, remembered) == ([False], [True])
    assert 0.97 * recalled <= tried <= 1.5 * recalled
