"""What a map has kept, in words and as a table: no map is shown without these numbers."""

from collections.abc import Mapping, Sequence

from cytolens.figures.style import METHODS, number
from cytolens.records.maps import Embedding
from cytolens.report.page import ReportTable
from cytolens.report.results import StudyResults

NAMES = {
    "recall_10": "recall@10",
    "recall_100": "recall@100",
    "trustworthiness": "trustworthiness",
    "continuity": "continuity",
    "distance_correlation": "correlation of distances",
    "kl_divergence": "KL divergence",
}
_MEANING = (
    "Recall@k: share of a cell's k nearest neighbours in the features that are among its k "
    "nearest on the map. Trustworthiness: 1 unless neighbours on the map are strangers in the "
    "features; continuity: 1 unless neighbours in the features are strangers on the map. "
    "Correlation of distances: Spearman's, over random pairs of cells. KL divergence (nats): what "
    "t-SNE minimises; comparable between maps of the same cells only."
)


def of_map(quality: Mapping[str, float]) -> str:
    """One sentence with every number known of a map; empty where there is none."""
    return _sentence("map", {key: number(quality[key]) for key in NAMES if key in quality})


def of_maps(maps: Sequence[Embedding]) -> str:
    """The same as ranges over several maps."""
    said: dict[str, str] = {}
    for key in NAMES:
        values = [found.quality[key] for found in maps if key in found.quality]
        if values:
            low, high = number(min(values)), number(max(values))
            said[key] = low if low == high else f"{low} to {high}"
    return _sentence("maps", said)


def _sentence(what: str, said: Mapping[str, str]) -> str:
    shares = [f"{NAMES[key]} {text}" for key, text in said.items() if key != "kl_divergence"]
    text = f"What the {what} kept (1: all): {', '.join(shares)}." if shares else ""
    if "kl_divergence" in said:
        text += f" KL divergence {said['kl_divergence']} nats."
    return text.strip()


def quality_table(results: StudyResults) -> ReportTable | None:
    """Every map with every number that says what it kept."""
    maps = [found for by_layer in results.maps.values() for found in by_layer.values()]
    keys = [key for key in NAMES if any(key in found.quality for found in maps)]
    if not keys:
        return None
    depths = {layer.name: layer.depth for layer in results.layers}
    maps.sort(key=lambda found: depths.get(found.layer, 0))
    rows = tuple(
        (
            found.layer,
            METHODS.get(found.method, found.method),
            *(number(found.quality.get(key, float("nan")), 3) for key in keys),
        )
        for found in maps
    )
    header = ("layer", "map", *(NAMES[key] for key in keys))
    return ReportTable("What each map kept", header, rows, _MEANING, text_columns=2, folded=True)
