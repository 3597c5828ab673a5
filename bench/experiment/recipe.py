"""The arms of the experiment, and the stages that score them."""

from dataclasses import dataclass
from pathlib import Path

from sennet_engine.errors import ConfigError

ARMS = {
    "arm_dense": "dense only",
    "arm_sparse": "+ sparse labels as they are",
    "arm_pseudo": "+ pseudo-labels, 85 % first (the third place's order)",
    "arm_reverse": "+ pseudo-labels, 65 % first (the reverse)",
    "arm_at_once": "+ pseudo-labels, both at once",
    "arm_full": "+ full labels",
}
"""Fit stages of the recipes, and what they are called in tables."""
TESTS = {"held_out_85": "held out of the 85 %", "held_out_65": "held out of the 65 %", "unseen": "unseen"}
"""Volumes of the recipes that arms are scored on, likewise."""
VALIDATION = "validation"
"""The volume that every arm's threshold is chosen on."""


@dataclass(frozen=True)
class LabelStage:
    """A pseudo-label stage: its volume, and what tables call that and what its teacher was trained on."""

    volume: str
    volume_shown: str
    teacher_shown: str


LABELS = {
    "label_85": LabelStage("sparse_85", "85 %", "dense"),
    "label_65": LabelStage("sparse_65", "65 %", "dense + 85 %"),
    "label_65_first": LabelStage("sparse_65", "65 %", "dense"),
    "label_85_second": LabelStage("sparse_85", "85 %", "dense + 65 %"),
}
"""Pseudo-label stages of the recipes."""


def scored_recipe(path: Path) -> str:
    """The text of the recipe `path` with an evaluate stage for each arm on each test volume.

    The threshold of a score is the best one of that arm on the validation volume.

    Raises:
        ConfigError: there is no such file.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); run in the project's folder, or name its recipes: --recipes"
        ) from error
    return "\n".join([text, *(stage for arm in ARMS for stage in _scores_of(arm))])


def score_stage(arm: str, volume: str) -> str:
    """The name of the evaluate stage of `arm` on `volume`."""
    return f"{arm}.{volume}"


def _scores_of(arm: str) -> list[str]:
    threshold = f'threshold = "{score_stage(arm, VALIDATION)}"\n'
    return [_evaluate(arm, VALIDATION), *(_evaluate(arm, test) + threshold for test in TESTS)]


def _evaluate(arm: str, volume: str) -> str:
    name = score_stage(arm, volume)
    return f'[[stages]]\nkind = "evaluate"\nname = "{name}"\nvolume = "{volume}"\nnetworks = ["{arm}"]\n'
