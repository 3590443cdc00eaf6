"""What all figures share: fonts, colours, sizes, and how a Figure becomes PNG and SVG bytes.

Nothing global is left changed: `styled` draws inside a style context, and no pyplot is used.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from io import BytesIO
from typing import Any, ParamSpec, TypeVar, cast

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from numpy.typing import NDArray

from cytolens.figures.labels import shorten

_DECADES = 10**2.5  # range of a logarithmic axis up to which more than one tick a decade fits
_MARGIN = 0.06  # inches around what is drawn: nothing is cut off
P = ParamSpec("P")
R = TypeVar("R")

WIDTH = 7.2  # inches: a double column (183 mm)
HALF_WIDTH = 3.55  # inches: a single column
BRIEF_WIDTH = (
    4.7  # inches: of figures with the most important only, two beside each other on a page
)
SMALL = 7.0  # points: the smallest type in any figure
INK = "#222222"
FAINT = "#8A8A8A"  # null, "none of them"
TRAINED = "#0072B2"
UNTRAINED = "#D55E00"
OUTLINE = "#FFD320"  # around what is meant in a crop

# Okabe & Ito 2008, ordered so that the first two are far apart; its yellow is darkened to be seen
# on white, and two more of like lightness contrast are added for up to ten classes.
PALETTE = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#333333",
    "#B5A800",
    "#882255",
    "#7F5539",
)

STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same picture everywhere
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 5,
    "axes.labelsize": 8,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#555555",
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "xtick.labelsize": SMALL + 0.5,
    "ytick.labelsize": SMALL + 0.5,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "legend.handletextpad": 0.5,
    "lines.linewidth": 1.4,
    "lines.color": PALETTE[0],  # "C0" is looked up anew for every line and patch
    "patch.facecolor": PALETTE[0],
    "text.color": INK,
    "text.parse_math": False,  # a class may be called "CD3$^+$"; it is shown as typed
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "none",  # text stays text
    "pdf.fonttype": 42,
    "image.composite_image": False,  # each crop by itself: all of an axes as one is slow
    "svg.hashsalt": "cytolens",  # the same figure gives the same bytes
}


def styled(plot: Callable[P, R]) -> Callable[P, R]:
    """Draws inside the house style, and leaves matplotlib's settings as they were."""

    @wraps(plot)
    def draw(*args: P.args, **kwargs: P.kwargs) -> R:
        with mpl.rc_context(cast(Any, STYLE)):
            return plot(*args, **kwargs)

    return draw


@styled
def render(
    figure: Figure, *, dpi: int = 160, svg: bool = True, svg_dpi: int = 300
) -> tuple[bytes, bytes]:
    """The figure as PNG and as SVG bytes, cut to what is drawn; the layout is made once.

    ``dpi`` of the PNG: at 160 the smallest type is 15 px high, and nine of ten figures of a study
    fit one page as they are. ``svg=False`` leaves out the SVG (no bytes), which costs about as much
    again. ``svg_dpi`` is that of dense point clouds, which are pictures inside the SVG; crops are
    in it pixel by pixel. Neither holds a date: the same figure gives the same bytes. The figure's
    layout is fixed afterwards.
    """
    figure.set_dpi(dpi)
    renderer = FigureCanvasAgg(figure).get_renderer()
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()
        figure.set_layout_engine(None)
    box = figure.get_tightbbox(renderer).padded(_MARGIN)
    png, vector = BytesIO(), BytesIO()
    figure.savefig(
        png, format="png", dpi=dpi, bbox_inches=box, metadata={"Software": "cytolens"},
        pil_kwargs={"compress_level": 2},  # a quarter faster, 7 % larger
    )  # fmt: skip
    if not svg:
        return png.getvalue(), b""
    pictures = [(image, image.get_interpolation()) for image in figure.findobj(AxesImage)]
    for image, _ in pictures:
        _keep_pixels(image, renderer)
    metadata = {"Date": None, "Creator": "cytolens"}
    figure.savefig(vector, format="svg", dpi=svg_dpi, bbox_inches=box, metadata=metadata)
    for image, interpolation in pictures:
        image.set_interpolation(interpolation)
    return png.getvalue(), vector.getvalue()


def _keep_pixels(image: AxesImage, renderer: RendererBase) -> None:
    """An enlarged picture goes into the SVG as it is, not enlarged."""
    pixels, extent = image.get_size()[1], image.get_window_extent(renderer)
    if pixels <= extent.width:
        image.set_interpolation("none")


def colours(n: int, *, first: int = 0) -> list[str]:
    """``n`` colours as hex: the palette, then its lighter and darker cousins, and round again.

    ``first`` leaves so many out, which something else in the same figure has.
    """
    found: list[str] = []
    for i in range(first, first + n):
        rgb = np.array(to_rgb(PALETTE[i % len(PALETTE)]))
        shade = i // len(PALETTE) % 3
        rgb = rgb if shade == 0 else rgb * 0.5 + 0.5 if shade == 1 else rgb * 0.6
        found.append("#" + "".join(f"{round(255 * part):02x}" for part in rgb))
    return found


def legend_text(text: str, length: int = 24) -> str:
    """``text`` for a legend; matplotlib would hide one that begins with an underscore."""
    text = shorten(text, length)
    return f" {text}" if text.startswith("_") else text


def bare(axes: Axes) -> None:
    """No ticks and a thin frame: for maps, whose axes have no units."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color("#C8C8C8")


def ruled(axes: Axes, *, grid: str = "y") -> None:
    """Tick labels at the house size, whenever they are drawn, and a light grid."""
    axes.tick_params(labelsize=SMALL + 0.5, labelfontfamily=STYLE["font.family"])
    if grid:
        axes.grid(True, axis=grid)  # pyright: ignore[reportArgumentType]


def depth_axis(axes: Axes, names: Sequence[str], *, labels: bool = True) -> None:
    """Layers along x in depth order; about a dozen are named so that names can be read."""
    last = len(names) - 1
    step = max(1, -(-last // 12))
    places = [*range(0, max(last - step // 2, 1), step), last] if last > 0 else [0] * len(names)
    axes.set_xticks(places)
    if labels:
        axes.set_xticklabels(
            [shorten(names[i], 16) for i in places], rotation=45, ha="right", rotation_mode="anchor"
        )
    else:
        axes.set_xticklabels([])
    axes.set_xlim(-0.4, max(len(names) - 0.6, 0.4))


class _FewTicks(LogLocator):
    """Ticks at 1, 2 and 5 of each decade, or over many decades at 1 only."""

    def tick_values(self, vmin: float, vmax: float) -> Sequence[float]:
        low, high = sorted((vmin, vmax))
        self.set_params(subs=(1.0,) if low <= 0 or high / low > _DECADES else (1.0, 2.0, 5.0))
        return super().tick_values(vmin, vmax)


def logarithmic(axes: Axes) -> None:
    """A logarithmic y axis whose ticks are written as plain numbers, few enough to be read."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(_FewTicks(numticks=7))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def move_apart(values: Sequence[float], gap: float) -> list[float]:
    """The values, moved apart as little as it takes to lie ``gap`` from each other."""
    order = np.argsort(values, kind="stable")
    placed: NDArray[np.float64] = np.asarray(values, dtype=float)[order]
    for _ in range(50):
        for i in range(len(placed) - 1):
            short = gap - (placed[i + 1] - placed[i])
            if short > 1e-12:
                placed[i] -= short / 2
                placed[i + 1] += short / 2
    result = np.empty_like(placed)
    result[order] = placed
    return [float(value) for value in result]
