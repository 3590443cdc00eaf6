"""How well the classes come apart at a layer, class by class, and how alike layers are.

What `measure_separation` measures is in `separation.MEASURES`.
"""

from cytolens.separation.pairwise import measure_pairs
from cytolens.separation.separation import measure_separation
from cytolens.separation.similarity import measure_similarity

__all__ = ["measure_pairs", "measure_separation", "measure_similarity"]
