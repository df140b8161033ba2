"""Open weights in and out: one small mapping for each published architecture."""
