"""Adaptation: one base, many tasks, each compared with the same model from random init."""
