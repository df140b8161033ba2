"""Stores: data cleaned, deduplicated, encoded and split, on disk."""
