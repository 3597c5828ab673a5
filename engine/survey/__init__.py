"""A coarse look at the volume: where the organ is, and a check of what was left out."""
