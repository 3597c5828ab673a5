"""How fast, how good, against what."""
