"""Sources: raw records out of files, tables and folders."""
