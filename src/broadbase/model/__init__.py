"""The model: a backbone and its Spaces put together and initialised."""
