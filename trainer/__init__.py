"""From sparse labels to pseudo-labelled, trained models."""
