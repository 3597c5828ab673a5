"""What the README and the command line promise."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sennet_trainer.settings import load_fit_settings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SUBCOMMANDS = ("fit", "crops", "run", "report", "pseudo-label", "threshold", "evaluate", "phantom", "quality")
COMMANDS = ["sennet-infer", "sennet-score", "sennet-train", "sennet-export", "sennet-bench"]


def blocks(language):
    """The README's code blocks of one language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def installed(command):
    """The script of an installed command."""
    found = shutil.which(command, path=str(Path(sys.executable).parent))
    assert found, f"{command} is not installed"
    return found


@pytest.mark.parametrize("command", COMMANDS)
def test_help_answers_within_half_a_second(command):
    """Heavy imports wait until there is work to do. Processor time, since the machine may be busy; best of three."""
    seconds = []
    for _ in range(3):
        before = os.times()
        done = subprocess.run([installed(command), "--help"], capture_output=True, check=True, text=True)
        after = os.times()
        seconds.append(sum(after[2:4]) - sum(before[2:4]))
    assert "Usage" in done.stdout
    assert min(seconds) < 0.5


def test_the_readme_is_short_and_its_links_lead_somewhere():
    """At most 120 lines, and every file that it names is there."""
    assert len(README.splitlines()) <= 120
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target


def test_every_command_of_the_readme_takes_its_options():
    """Commands, subcommands and options in the README's shell blocks are those of the installed commands."""
    lines = [line.split("#")[0].split() for block in blocks("sh") for line in block.splitlines()]
    used = [words for words in lines if words and Path(words[0]).name in COMMANDS]
    assert len(used) >= 5
    for words in used:
        subcommand = words[1:2] if words[1] in SUBCOMMANDS else []
        program = [installed(Path(words[0]).name), *subcommand, "--help"]
        text = subprocess.run(program, capture_output=True, check=True, text=True).stdout
        for option in (word for word in words if word.startswith("--")):
            assert option in text, (words, option)


def test_the_make_targets_of_the_readme_exist():
    """`make demo` and `make test` are rules, and .ci/run calls the second."""
    rules = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\S+)", "\n".join(blocks("sh")), re.MULTILINE):
        assert f"\n{target}:" in rules
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_the_settings_in_the_readme_and_the_recipes_are_valid(tmp_path):
    """A person who copies them gets past the first check."""
    (tmp_path / "mine.toml").write_text(blocks("toml")[0], encoding="utf-8")
    assert load_fit_settings(tmp_path / "mine.toml").name == "mine"
    assert load_fit_settings(ROOT / "recipes" / "builtin.toml").name == "builtin"  # the others: tests/trainer/recipe


def test_the_python_in_the_readme_runs(tmp_path, monkeypatch):
    """The lines as they stand segment a volume."""
    import numpy as np
    import tifffile

    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("volume.tif", np.random.default_rng(0).integers(0, 255, (2, 40, 50), dtype=np.uint8))
    exec(blocks("python")[0], {})
    assert (tmp_path / "result" / "mask.tif").exists()
