"""What is going to be done: the nouns of a plan, how tiles are laid out, what it will cost."""
