"""A base behind an HTTP API: what listens, who may ask, and the one thread that computes."""
