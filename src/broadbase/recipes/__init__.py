"""Recipes, one file each: a module's RECIPE builds a whole run from a depth and a place of data."""
