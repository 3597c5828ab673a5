"""A recipe: stages of training and pseudo-labelling that depend on each other."""
