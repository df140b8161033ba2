"""Contract checks for the tests of a package that adds a modality, an objective or a source."""

from broadbase.testing.modality import check_modality
from broadbase.testing.objective import check_objective, check_pairing
from broadbase.testing.promise import BrokenPromiseError
from broadbase.testing.source import check_source

__all__ = [
    "BrokenPromiseError",
    "check_modality",
    "check_objective",
    "check_pairing",
    "check_source",
]
