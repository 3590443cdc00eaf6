"""Whether training has made what the layers say of cells more complex, in a sentence."""

from cytolens.figures.labels import format_interval, format_number
from cytolens.numerics.estimates import Estimate
from cytolens.records.features import Complexity

ALL_TOGETHER = "second_order"
"""The description of a cell that holds all others."""

_WORDS = {
    "intensity": "brightness and size",
    "profile": "brightness, size and where the brightness lies",
    "first_order": "brightness, shape, edges and grain",
    ALL_TOGETHER: "brightness, shape and texture",
}


def growth_of_complexity(found: Complexity | None) -> str:
    """What the last layer says beyond simple descriptions, against the network before training.

    By the richest description of which less is explained than before training, clearly. Empty
    where it is not known.
    """
    layer = "" if found is None else next(reversed(list(found.layers)), "")
    gaps = {} if found is None else found.gaps.get(layer, {})
    if ALL_TOGETHER not in gaps:
        return ""
    whole = gaps[ALL_TOGETHER]
    if not whole.known:
        return _unknown(whole, layer)
    clear = [name for name in _WORDS if name in gaps and gaps[name].high < 0]
    if clear:
        name = clear[-1]
        return (
            "Training has made the network's features more complex than their depth alone does: "
            f"{_WORDS[name]} explain less of what the channels say at {layer} than before "
            f"training, by {format_interval(gaps[name])} of their variance."
        )
    return (
        "Training has not clearly made the network's features more complex than their depth alone "
        f"does: what {_WORDS[ALL_TOGETHER]} explain of {layer} differs from before training by "
        f"{format_interval(whole)}."
    )


def _unknown(gap: Estimate, layer: str) -> str:
    """Without an interval."""
    why = "" if gap.no_interval is None else f" ({gap.no_interval})"
    way = "less" if gap.value < 0 else "no less"
    return (
        f"At {layer} simple descriptions explain {way} than before training (difference "
        f"{format_number(gap.value)}), but no interval can be given{why}: whether training made "
        "the network's features more complex cannot be said."
    )
