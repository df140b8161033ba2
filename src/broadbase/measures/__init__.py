"""Measures, one file each: what `evaluate` tells of a base, beside baselines, on held-out data."""
