"""Whether training has made what the layers say of cells more complex, in a sentence."""

from cytolens.figures.labels import format_interval, format_number
from cytolens.records.features import Complexity

ALL_TOGETHER = "second_order"
"""The description of a cell that holds all others."""


def growth_of_complexity(found: Complexity | None) -> str:
    """What the last layer says beyond simple descriptions, against the network before training.

    Empty where it is not known.
    """
    layer = "" if found is None else next(reversed(list(found.layers)), "")
    gap = None if found is None else found.gaps.get(layer, {}).get(ALL_TOGETHER)
    if gap is None:
        return ""
    if not gap.known:
        why = "" if gap.no_interval is None else f" ({gap.no_interval})"
        way = "less" if gap.value < 0 else "no less"
        return (
            f"At {layer} simple descriptions explain {way} than before training (difference "
            f"{format_number(gap.value)}), but no interval can be given{why}: whether training "
            "made the network's features more complex cannot be said."
        )
    if gap.high < 0:
        return (
            "Training has made the network's features more complex than their depth alone does: "
            "brightness, shape and texture explain less of what the channels say at "
            f"{layer} than before training, by {format_interval(gap)} of their variance."
        )
    return (
        "Training has not clearly made the network's features more complex than their depth alone "
        f"does: what brightness, shape and texture explain of {layer} differs from before "
        f"training by {format_interval(gap)}."
    )
