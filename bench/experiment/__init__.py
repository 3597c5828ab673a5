"""What pseudo-labels are worth, on phantoms and on real stacks."""
