"""Spaces: how the values of a modality are embedded, predicted, scored and sampled."""
