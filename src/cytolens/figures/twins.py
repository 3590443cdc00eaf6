"""Channels that rise and fall with one of an earlier layer: shown once, and named there."""

from collections.abc import Mapping

from cytolens.figures.labels import shorten
from cytolens.records.features import FeatureImages

_LETTERS = 112  # of a line


def shown_here(images: FeatureImages, twins: Mapping[str, str]) -> list[int]:
    """The images whose channels are not shown at an earlier layer."""
    names = [f"{images.layer}/{channel}" for channel in images.channels]
    return [k for k, name in enumerate(names) if name not in twins]


def twin_lines(images: FeatureImages, twins: Mapping[str, str]) -> list[str]:
    """What is written beneath a layer: which channels elsewhere its own stand for, and which not.

    At most two lines; ``twins`` is that of `Galleries`.
    """
    parts: list[str] = []
    for channel in images.channels.tolist():
        later = [name for name, first in twins.items() if first == f"{images.layer}/{channel}"]
        if later:
            parts.append(f"ch {channel} also: {', '.join(later)}")
    lines = [shorten("; ".join(parts), _LETTERS)] if parts else []
    away = [
        f"ch {channel} ({twins[f'{images.layer}/{channel}']})"
        for channel in images.channels.tolist()
        if f"{images.layer}/{channel}" in twins
    ]
    if away:
        lines.append(shorten(f"shown above: {', '.join(away)}", _LETTERS))
    return lines
