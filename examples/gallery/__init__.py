"""A small but real photo application: the monolith of the demo."""
