"""A volume from end to end: its stages, what they wait for, memory, energy and quality."""
