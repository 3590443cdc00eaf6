"""The examples in the docstrings of the public functions give what they say."""

import doctest
from importlib import import_module

import pytest

ROOMS = ("atlas", "complexity", "faithfulness", "modulation", "optimisation", "priors")


@pytest.mark.parametrize("room", ROOMS)
def test_examples_in_docstrings_hold(room: str) -> None:
    found = doctest.testmod(import_module(f"cytolens.features.{room}"))
    assert found.attempted > 0
    assert found.failed == 0
