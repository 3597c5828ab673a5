"""Model bundles that ship with the engine."""
