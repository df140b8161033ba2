"""Recipes, one file each: a module's RECIPE builds a run's config from a depth and data."""
