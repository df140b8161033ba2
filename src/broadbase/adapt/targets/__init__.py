"""The kinds of labels that a task can have; a file each."""
