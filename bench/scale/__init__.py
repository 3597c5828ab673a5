"""How the cost grows with planes, their size, networks, threads and overlap."""
