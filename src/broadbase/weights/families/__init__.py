"""Published families, one mapping each."""
