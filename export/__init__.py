"""From a checkpoint to model files, each proven equal."""
