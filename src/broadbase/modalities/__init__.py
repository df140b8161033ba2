"""Modalities, one file each: a codec, a corruption and a Space."""
