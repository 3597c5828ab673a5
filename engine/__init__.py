"""From a volume on disk to a mask on disk, fast."""

__version__ = "0.1.0"
