"""What a network starts from: the weights of another run, or those of its encoder, or random ones."""

import hashlib
from pathlib import Path

from sennet_engine.errors import ModelError
from sennet_trainer.encoder_weights import load_encoder_weights
from sennet_trainer.network import Segmenter
from sennet_trainer.network_settings import NetworkSettings
from sennet_trainer.run_folder import NETWORK, load_run
from sennet_trainer.settings import FitSettings


def load_starting_weights(segmenter: Segmenter, settings: FitSettings) -> None:
    """Fill `segmenter` from the run `settings.start_from`; where there is none, its encoder as its settings say.

    Raises:
        ModelError: that is no finished run, or one of another network; or the encoder's weights cannot be read.
        ConfigError: the hub cannot be reached, or the weights are of another encoder.
        MissingExtraError: the package that holds the encoder's weights is not installed.
    """
    if settings.start_from is None:
        load_encoder_weights(segmenter, settings.network)
        return
    run = load_run(settings.start_from)
    if not run.complete:
        raise ModelError(f"start_from: {settings.start_from} is not finished; end its training first")
    _check_same_network(run.settings.network, settings.network, settings.start_from)
    segmenter.load_state_dict(run.segmenter.state_dict())


def start_fingerprint(settings: FitSettings) -> dict[str, str]:
    """The sha256 of the network that training starts from, as `start_from PATH`; of a missing one nothing."""
    if settings.start_from is None or not (settings.start_from / NETWORK).exists():
        return {}
    with (settings.start_from / NETWORK).open("rb") as file:
        return {f"start_from {settings.start_from}": hashlib.file_digest(file, "sha256").hexdigest()}


def _check_same_network(got: NetworkSettings, expected: NetworkSettings, run: Path) -> None:
    """What an encoder once started from does not matter any more."""
    there, here = (network.model_dump(mode="json", exclude={"encoder_weights"}) for network in (got, expected))
    differing = [key for key in here if there[key] != here[key]]
    if differing:
        lines = [f"network.{key}: got {there[key]!r} there, expected {here[key]!r}" for key in differing]
        raise ModelError(
            "\n  ".join([f"start_from: {run} holds another network; give a run of this network, or mend the settings",
                         *lines])
        )  # fmt: skip
