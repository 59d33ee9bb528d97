"""One module a row: `measure(scale) -> Measured`, in a process of its own with a limit in time."""
