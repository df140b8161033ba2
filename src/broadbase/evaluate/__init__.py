"""Measures, one file each: a base and its baselines on held-out data."""
