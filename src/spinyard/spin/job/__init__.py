"""A Job: one spin at a time that runs to exit 0, with retries and a timeout."""
