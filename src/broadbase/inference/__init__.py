"""Inference: a trained base embeds, scores and generates."""
