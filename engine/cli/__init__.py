"""The commands `sennet-infer` and `sennet-score`."""
