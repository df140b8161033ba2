"""Data: sources of raw records, prepared stores, packed rows, resumable batches."""
