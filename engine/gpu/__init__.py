"""GPUs: which are there, and predictors whose tiles and answers lie in their memory."""
