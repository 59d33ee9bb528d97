"""HTTP. It writes wishes and shows views; it never runs the engine, and never blocks the event loop with the store."""
