"""Networks applied to whole volumes, out of core: mean probabilities, pseudo-labels, thresholds, scores."""
