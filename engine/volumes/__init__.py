"""Read (Z, Y, X) volumes plane by plane, whatever they are stored as."""
