"""Channels that rise and fall with one of an earlier layer: shown once, and named there."""

from collections.abc import Mapping, Sequence

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
            parts.append(_joined(f"ch {channel} also: ", later, _LETTERS // 2))
    lines = [_joined("", parts, _LETTERS, "; ")] if parts else []
    away = [
        f"ch {channel} ({twins[f'{images.layer}/{channel}']})"
        for channel in images.channels.tolist()
        if f"{images.layer}/{channel}" in twins
    ]
    if away:
        lines.append(_joined("shown above: ", away, _LETTERS))
    return lines


def _joined(start: str, parts: Sequence[str], length: int, between: str = ", ") -> str:
    """As many whole parts as fit into ``length`` characters, and how many more there are."""
    for kept in range(len(parts), 0, -1):
        left = [f"and {len(parts) - kept} more"] if kept < len(parts) else []
        text = start + between.join([*parts[:kept], *left])
        if len(text) <= length:
            return text
    return shorten(start + parts[0], length)
