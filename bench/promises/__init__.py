"""What the documents promise of a run, measured: estimates, skipping, cascades, the same bits."""
