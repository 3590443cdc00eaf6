"""The known-answer suite: does what is shown point at what a network demonstrably uses?"""

from cytolens.validation.known_answers import Case, find_known_answer
from cytolens.validation.planting import Pairs, plant_pairs
from cytolens.validation.suite import ValidationSettings, settings_for, validate

__all__ = [
    "Case",
    "Pairs",
    "ValidationSettings",
    "find_known_answer",
    "plant_pairs",
    "settings_for",
    "validate",
]
