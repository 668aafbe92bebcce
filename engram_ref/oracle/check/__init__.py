"""Compare a port's answers with a kit: which are wrong, where, and which known bug gives the same answers."""
