"""Whether the engine does on a GPU what it promises: one command, one page, ten minutes."""
