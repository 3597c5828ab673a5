"""The way of the data: from planes to sums of probabilities, on streams."""
