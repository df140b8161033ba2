"""Documents that can be searched: passages with words and vectors in one file."""
