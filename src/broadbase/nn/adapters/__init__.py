"""Adapters of linear maps: one kind a file, what trains one, and what mixes several."""
