"""The model: a backbone and its Spaces put together, initialised, and sampled from."""
