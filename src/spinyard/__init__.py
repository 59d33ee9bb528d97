"""Spinyard: services that come and go, with proof that nothing is left."""
