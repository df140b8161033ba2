"""The contracts: whoever knows these nouns knows the system."""
