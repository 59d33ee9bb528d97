"""What others tell us of their work: OTLP in, and the traces of the recent past."""
