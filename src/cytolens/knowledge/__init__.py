"""What a network knows besides the class, what gives the label away, and which cells to doubt."""

from cytolens.knowledge.confounds import find_confounds
from cytolens.knowledge.knowledge import measure_knowledge
from cytolens.knowledge.suspects import find_suspects

__all__ = ["find_confounds", "find_suspects", "measure_knowledge"]
