"""Sample data sets, out of installed packages and of the standard library."""
