"""Integers in place of floats: calibrated, quantised, and held to a gate."""
