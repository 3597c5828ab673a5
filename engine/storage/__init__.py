"""What a run keeps on the disk while it is at work, and how its result appears."""
