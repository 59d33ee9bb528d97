"""Small programs that rows start, bare or as spins."""
