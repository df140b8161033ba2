"""A run: its config, its data, and the folder that keeps what it did."""
