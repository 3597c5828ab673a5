"""The engine beside other people's tools, in turns; the tools themselves are in `peers`."""
