"""A Service: so many spins of a template behind one route, replaced by rolling."""
