"""Records in, matplotlib Figures out: one file per subject. Nothing is shown or written."""

from cytolens.figures.atlas import plot_atlas
from cytolens.figures.cells import plot_cells
from cytolens.figures.channels import plot_channel_cards
from cytolens.figures.cluster_map import plot_cluster_outlines
from cytolens.figures.clusters import plot_class_parts, plot_clusters
from cytolens.figures.depth import plot_complexity, plot_separation
from cytolens.figures.faithfulness import plot_faithfulness
from cytolens.figures.flow import plot_flow
from cytolens.figures.gallery import plot_feature_gallery, plot_feature_images
from cytolens.figures.knowledge import plot_knowledge
from cytolens.figures.map_panels import plot_embedding_panel, plot_maps_by_depth
from cytolens.figures.maps import SHADE_LIMIT, plot_embedding
from cytolens.figures.modulation import plot_cell_explanation, plot_modulated
from cytolens.figures.pairs import plot_pairs
from cytolens.figures.performance import (
    plot_confusion,
    plot_measures,
    plot_reliability,
    plot_training,
)
from cytolens.figures.pointing import plot_known_answer, plot_pointing
from cytolens.figures.similarity import plot_similarity
from cytolens.figures.style import render_pdf, render_png, render_svg
from cytolens.figures.suspects import plot_suspects
from cytolens.figures.thumbnails import plot_thumbnails

__all__ = [
    "SHADE_LIMIT",
    "plot_atlas",
    "plot_cell_explanation",
    "plot_cells",
    "plot_channel_cards",
    "plot_cluster_outlines",
    "plot_class_parts",
    "plot_clusters",
    "plot_complexity",
    "plot_confusion",
    "plot_embedding",
    "plot_embedding_panel",
    "plot_faithfulness",
    "plot_feature_gallery",
    "plot_feature_images",
    "plot_knowledge",
    "plot_flow",
    "plot_known_answer",
    "plot_maps_by_depth",
    "plot_measures",
    "plot_modulated",
    "plot_pairs",
    "plot_pointing",
    "plot_reliability",
    "plot_separation",
    "plot_similarity",
    "plot_suspects",
    "plot_thumbnails",
    "plot_training",
    "render_pdf",
    "render_png",
    "render_svg",
]
