"""A WarmPool: instances that are there before anyone waits for them."""
