"""The report of a recipe or a run: one self-contained HTML page."""
