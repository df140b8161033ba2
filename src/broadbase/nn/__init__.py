"""Layers, each in a slot of its own: a variant is another class in the slot, never a flag."""
