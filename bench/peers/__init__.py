"""Contestants of `sennet-bench compare`, each in a file of its own: the engine, and what people use instead of it."""
