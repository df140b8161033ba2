"""The demo: the main job on real data, from nothing to a report, in minutes."""
