"""The gpu-marked tests as `sennet-bench gpu-check` runs them: each is told, whatever becomes of pytest."""

import pytest

from sennet_bench.gpu_check import marked_tests
from sennet_bench.gpu_check.steps import Outcome


def test_every_marked_test_is_told_with_its_outcome(tmp_path):
    """Run by pytest in a process of its own; a failure keeps its traceback, a skip its reason."""
    folder = tmp_path / "tests" / "gpu"
    folder.mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text(
        '[tool.pytest.ini_options]\nmarkers = ["gpu: needs a GPU"]\nfilterwarnings = ["error"]\n'
    )
    (folder / "test_made.py").write_text(
        "import pytest\npytestmark = pytest.mark.gpu\n"
        "def test_good(): pass\n"
        "def test_bad(): assert 1 == 2, 'not equal'\n"
        "@pytest.mark.skip(reason='one GPU alone')\ndef test_two(): pass\n"
        "def test_warns():\n    import warnings\n    warnings.warn('old', DeprecationWarning)\n"
    )
    step, tests = marked_tests.run_marked_tests(tmp_path, seconds=60)
    assert {test.name.partition("::")[2]: str(test.outcome) for test in tests} == {
        "test_good": "passed", "test_bad": "failed", "test_two": "not run", "test_warns": "passed",
    }  # fmt: skip
    told = {test.name.partition("::")[2]: test for test in tests}
    assert "assert 1 == 2" in told["test_bad"].error
    assert told["test_two"].reason == "one GPU alone"
    assert step.outcome is Outcome.FAILED
    assert step.reason == "2 passed, 1 failed, 1 not run"


@pytest.mark.parametrize(
    ("how", "seconds", "expected"),
    [("import os; os.kill(os.getpid(), 11)", 60, "SIGSEGV"), ("import time; time.sleep(60)", 8, "was stopped")],
)
def test_what_was_told_before_a_crash_or_the_end_of_the_time_is_kept(tmp_path, how, seconds, expected):
    """The test that was running is the one that failed; those after it were never begun."""
    folder = tmp_path / "tests" / "gpu"
    folder.mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\nmarkers = ["gpu: needs a GPU"]\n')
    (folder / "test_made.py").write_text(
        "import pytest\npytestmark = pytest.mark.gpu\n"
        f"def test_good(): pass\ndef test_ends_it(): {how}\ndef test_later(): pass\n"
    )
    step, tests = marked_tests.run_marked_tests(tmp_path, seconds=seconds)
    assert [(test.name, str(test.outcome)) for test in tests] == [
        ("test_made::test_good", "passed"), ("test_made::test_ends_it", "failed"),
    ]  # fmt: skip
    assert expected in tests[1].reason
    assert step.outcome is Outcome.FAILED
    assert expected in step.reason


def test_tests_that_crash_or_are_missing_are_no_pass(tmp_path):
    """pytest that dies tells nothing of its tests; a folder without tests is not run."""
    assert marked_tests.run_marked_tests(tmp_path, seconds=9)[0].outcome is Outcome.NOT_RUN
    ended = marked_tests.Ended(-11, "Segmentation fault", 1.0)
    crashed = marked_tests.step_from_tests([], ended)
    assert crashed.outcome is Outcome.FAILED
    assert "SIGSEGV" in crashed.reason
    assert crashed.error == "Segmentation fault"
    assert marked_tests.tests_from_lines(['{"test": "a", "to'], ended) == []
