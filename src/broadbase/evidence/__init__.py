"""Evidence: a number, its baseline and the interval of their difference."""
