"""What training makes small: losses by name."""
