"""The one loop and what it stands on: it sees contracts only, never a modality or an objective."""
