"""Transfer: one base adapted to many tasks, each time beside the same model from random init."""
