"""Latency of single calls of networks, as percentiles, in parts and against the measured peak of the machine."""
