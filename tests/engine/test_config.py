"""Settings from TOML: all problems at once, in words that say what to write."""

import pytest
from pydantic import Field

from sennet_engine.config import Config, load_config
from sennet_engine.errors import ConfigError


class Inner(Config):
    """A table."""

    batch: int = Field(ge=1)
    rate: float = 1.0


class Outer(Config):
    """A file."""

    name: str
    training: Inner
    volumes: list[Inner] = []


GOOD = 'name = "a"\ntraining = { batch = 1 }\n'

MISTAKES = {
    "": "name: Field required",
    GOOD + "nmae = 1": "nmae: unknown key; did you mean 'name'?",
    GOOD + "[[volumes]]\nbatch = 1\nrat = 2": "volumes.0.rat: unknown key; did you mean 'rate'?",
    GOOD + "[[volumes]]\nbatch = 0": "volumes.0.batch: Input should be greater than or equal to 1 (got 0)",
    'name = "a"\ntraining = 3': "training: got 3, expected a table",
    'name = "a"\ntraining = { batch = 1, rate = nan }': "training.rate: Input should be a finite number (got nan)",
    "name = ": "is not valid TOML",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_each_mistake_is_named_with_its_place(tmp_path, text):
    """The key, what was got, and what is expected; an unknown key names the nearest."""
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(ConfigError) as error:
        load_config(tmp_path / "a.toml", Outer)
    assert MISTAKES[text] in str(error.value)
    assert "a.toml" in str(error.value)


def test_all_mistakes_come_at_once(tmp_path):
    """Nobody mends a file one error at a time."""
    (tmp_path / "a.toml").write_text("nmae = 1\ntraining = { bacth = 1 }")
    with pytest.raises(ConfigError, match="4 problem") as error:
        load_config(tmp_path / "a.toml", Outer)
    assert "did you mean 'batch'" in str(error.value)


def test_a_missing_file_is_said(tmp_path):
    """The path, and what to give instead."""
    with pytest.raises(ConfigError, match=r"none.toml: cannot be read"):
        load_config(tmp_path / "none.toml", Outer)
