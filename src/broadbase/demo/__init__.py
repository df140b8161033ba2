"""The demo: pretraining and adapting on real data, from nothing to a report, in minutes."""
