"""Objectives, one file each: Views from batches, a Loss from Outputs, no parameters."""
