"""Memory that a step frees stays in the process."""

import subprocess
import sys

import pytest

COUNT_FAULTS = """
import resource, numpy as np
from sennet_trainer.allocator import keep_freed_memory
{call}
def step(): np.ones(64 << 20, np.uint8)
for _ in range(3): step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20): step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc hands large blocks back at once")
def test_large_blocks_are_not_faulted_in_again():
    """Twenty steps of 64 MB take page faults by the thousand, and next to none once freed memory is kept."""
    faults = [
        int(
            subprocess.run(
                [sys.executable, "-c", COUNT_FAULTS.format(call=call)], capture_output=True, check=True
            ).stdout
        )
        for call in ("", "assert keep_freed_memory()")
    ]
    assert faults[1] < faults[0] / 10
