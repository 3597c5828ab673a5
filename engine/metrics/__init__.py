"""How good a mask is: surface Dice, Dice, precision, recall."""
