"""Embedders and heads: how values are embedded, predicted, scored and sampled."""
