"""The ways to adapt a base to a task; a file each."""
