"""Groups of cells found at a layer: how sure they are, what tells them apart, where they go.

The methods that a user can name are in `methods.METHODS`.
"""

from cytolens.clusters.clustering import cluster
from cytolens.clusters.flow import measure_flow
from cytolens.clusters.stability import measure_stability
from cytolens.clusters.subpopulations import describe_clusters

__all__ = ["cluster", "describe_clusters", "measure_flow", "measure_stability"]
