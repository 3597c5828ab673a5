"""From finished slabs to the files that a person gets."""
