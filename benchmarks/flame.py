"""Where the time of a study goes, as a flame graph: each box a function, as wide as its share.

    pip install py-spy
    py-spy record -r 100 -f raw -o stacks.txt -- python -m cytolens run DATA --threads 1 --out RUN
    python benchmarks/flame.py stacks.txt benchmarks/results/flame.svg "T cells, one core"

Only the threads that make stages are shown, and of these what takes at least half a per cent; calls
that only pass on are left out.
"""

import sys
from collections.abc import Iterator
from html import escape
from pathlib import Path

WIDTH, HIGH, LEAST = 1400, 17, 0.005
PASSES_ON = (
    "click",
    "typer",
    "runpy",
    "contextlib",
    "_contextlib",
    "importlib",
    "threading",
    "cli/",
)
COLOURS = {"cytolens": "#8fbcdb", "torch": "#f0b27a", "matplotlib": "#a9d18e", "sklearn": "#d7aed0"}
Node = dict[str, "Tree"]


class Tree:
    """Samples below a function, and the functions that it calls."""

    def __init__(self) -> None:
        self.samples = 0
        self.calls: Node = {}


def read(stacks: Path) -> Tree:
    """The tree of all stacks (one line each: functions by semicolon, then the samples)."""
    root = Tree()
    for line in stacks.read_text().splitlines():
        stack, samples = line.rsplit(" ", 1)
        frames = [frame.rsplit(":", 1)[0] for frame in stack.split(";")]
        if not any("cytolens/study" in frame for frame in frames):
            continue
        place = root
        root.samples += int(samples)
        for frame in frames:
            if any(word in frame for word in PASSES_ON):
                continue
            place = place.calls.setdefault(frame, Tree())
            place.samples += int(samples)
    return root


def boxes(tree: Tree, depth: int, left: float, whole: int) -> Iterator[tuple[str, int, float, int]]:
    """Name, depth, left edge (share) and samples of all that is wide enough, callers first."""
    for name, below in sorted(tree.calls.items(), key=lambda entry: -entry[1].samples):
        if below.samples >= LEAST * whole:
            yield name, depth, left, below.samples
            yield from boxes(below, depth + 1, left, whole)
            left += below.samples / whole


def main() -> None:
    """Read the stacks and write the picture."""
    stacks, out, title = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    root = read(stacks)
    found = list(boxes(root, 0, 0.0, root.samples))
    height = (2 + max(depth for _, depth, _, _ in found)) * HIGH + 30
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="4" y="18" font-size="14">{escape(title)}: {root.samples / 100:.0f} s</text>',
    ]
    for name, depth, left, samples in found:
        x, y, wide = left * WIDTH, 30 + depth * HIGH, samples / root.samples * WIDTH
        colour = next((tint for word, tint in COLOURS.items() if word in name), "#d9d9d9")
        label = name.split(" (")[0][: max(0, int(wide / 6.2) - 1)]
        lines.append(
            f'<rect x="{x:.1f}" y="{y}" width="{max(wide - 0.5, 0.5):.1f}" height="{HIGH - 1}" '
            f'fill="{colour}"><title>{escape(name)}: {samples / 100:.1f} s</title></rect>'
        )
        if len(label) > 2:
            lines.append(f'<text x="{x + 2:.1f}" y="{y + 12}">{escape(label)}</text>')
    out.write_text("\n".join([*lines, "</svg>"]) + "\n")


if __name__ == "__main__":
    main()
