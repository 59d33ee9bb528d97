"""A Claim: one member of a pool, for one user, once."""
