"""The studio: local pages on the user's own run folders."""
