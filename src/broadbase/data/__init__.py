"""Data: sources of raw records, prepared stores, packed rows, resumable batches."""

import logging

# grain looks for a jax profiler when it is imported, and warns every user that there is none
logging.getLogger("absl").addFilter(lambda record: "jax profiler" not in record.getMessage())
