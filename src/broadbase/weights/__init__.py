"""Open weights in and out."""
