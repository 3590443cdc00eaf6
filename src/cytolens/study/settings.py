"""Everything a study can be asked for, in one place; the command line is made from it."""

from collections.abc import Iterable
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from cytolens.errors import SettingError

if TYPE_CHECKING:
    from cytolens.store.run_folder import RunFolder


def _setting(default: Any, panel: str, text: str, **more: Any) -> Any:
    metadata = {"panel": panel, "help": text, **more}
    if isinstance(default, list):
        return field(default_factory=list, metadata=metadata)
    return field(default=default, metadata=metadata)


CELLS, CLASSIFIER, DEPTH, MAPS, IMAGES, REPORT, MACHINE = (
    "Cells",
    "Classifier",
    "Activations",
    "Maps, clusters, separation",
    "Feature images",
    "Report",
    "Machine",
)


@dataclass(frozen=True, init=False)
class StudySettings:
    """Settings of a whole study, by name. A stage is given its own, so a change repeats little.

    With ``quick`` all that is not given becomes small; what is given always holds.
    """

    # Cells
    classes: list[str] = _setting([], CELLS, "classes to keep, by name or part of it; default all")
    channels: list[str] = _setting(
        [], CELLS, "image channels to keep, by name or part of it; default all", flag="--channel"
    )
    labels: str | None = _setting(
        None,
        CELLS,
        "where labels come from: 'folder', the name of a column or array, or a regular expression "
        "for file names such as '(?P<label>[^_]+)_.*'; default: the obvious",
    )
    group: str | None = _setting(
        None,
        CELLS,
        "what a split must not cut (donor, plate): the name of a folder level, column or array, a "
        "regular expression for paths below the data folder such as '(?P<group>[^_/]+)_', or "
        "'none'; default: the outer folder level, or a column 'group'",
    )
    size: int | None = _setting(
        None, CELLS, "crop size in pixels, padded or cropped, never rescaled; default: covers 95 %"
    )
    window: int | None = _setting(
        None,
        CELLS,
        "pixels cut around each cell of a field image; default: its own box and 4 px",
    )
    blank: str = _setting(
        "nothing",
        CELLS,
        "of crops cut from fields, blank 'neighbours' or all 'surroundings', by the label images",
    )
    intensity: str = _setting(
        "dataset", CELLS, "scale intensities per 'dataset', per 'image', or 'none'"
    )
    background: str = _setting(
        "border", CELLS, "value of padded pixels: 'border' (measured) or a number"
    )
    pixel_size: float | None = _setting(
        None, CELLS, "µm per pixel; default: from the files, where they say"
    )
    masks: str = _setting(
        "ignore",
        CELLS,
        "masks that come with the cells: 'ignore', 'blank' what is not the cell, or 'crop' to it",
    )
    skip_bad: bool = _setting(False, CELLS, "leave bad images out and list them in the report")
    relabel: str | None = _setting(
        None,
        CELLS,
        "the suspects.csv of a run, edited: use 'no' leaves a cell out, another label changes its "
        "class",
    )
    keep_together: bool = _setting(
        False, CELLS, "never put crops of the same cell (shifted, turned, next frame) in two parts"
    )
    limit: int | None = _setting(
        None, CELLS, "use at most this many cells, drawn evenly from the classes"
    )
    # Classifier
    model: str | None = _setting(
        None,
        CLASSIFIER,
        "your own network: 'file.py:function', called without arguments, 'timm:NAME', 'hf:REPO', "
        "or a model card (cytolens card drafts one)",
    )
    weights: str | None = _setting(
        None, CLASSIFIER, "weights of your own network (.safetensors, or a state dict .pt)"
    )
    outputs: str = _setting(
        "classes",
        CLASSIFIER,
        "what your network gives: logits of 'classes', of 'labels' (several may hold for a cell), "
        "'values' (regression), or an 'embedding'",
    )
    output_names: list[str] = _setting(
        [], CLASSIFIER, "names of outputs that are no classes, in their order"
    )
    allow_pickle: bool = _setting(
        False, CLASSIFIER, "unpickle the weights file, which can run any code: only your own"
    )
    trained_on: str | None = _setting(
        None,
        CLASSIFIER,
        "cells that your network was trained on: a file of names, column=value, a group, or 'all'",
    )
    held_out: str | None = _setting(
        None, CLASSIFIER, "the cells that it was not trained on, named in the same way"
    )
    untrained: bool = _setting(
        False, CLASSIFIER, "your network has random weights, and is meant to be studied like that"
    )
    epochs: int | None = _setting(None, CLASSIFIER, "at most this many epochs of training")
    folds: str | None = _setting(
        None,
        CLASSIFIER,
        "also train a network per held-out 'group', or per fold of a number; 'none' for none. "
        "Default: per group where there are 3 to 10 of them with cells of every class and it is "
        "about a quarter of an hour's work at most (groups × cells, up to 8192, × pixels "
        "≤ 3 × 10⁷); not with --quick or --model",
    )
    equalised: int = _setting(
        4000,
        CLASSIFIER,
        "where there is an alarm, train once more on at most this many crops made alike in all but "
        "the cell; 0 for not",
    )
    # Activations
    layers: list[str] = _setting([], DEPTH, "layers to look at; default: all")
    depths: int | None = _setting(
        None,
        DEPTH,
        "where no layers are named, look at this many with channels of their own, evenly spread "
        "over the depth, the first and the last among them; default: all",
    )
    reduction: str = _setting(
        "mean", DEPTH, "activation map to number: 'mean', 'max', 'centre' or 'flat'"
    )
    # Maps
    methods: list[str] = _setting(
        ["tsne", "pca"],
        MAPS,
        "maps to make: tsne, pca, umap, pacmap; default tsne and pca",
        flag="--method",
    )
    map_cells: int = _setting(5000, MAPS, "at most this many cells on a map, drawn at random")
    clustering: str = _setting(
        "kmeans",
        MAPS,
        "'kmeans', 'gmm' (Gaussian mixture), 'hdbscan' or 'leiden' (communities of neighbours)",
    )
    n_clusters: int | None = _setting(
        None, MAPS, "number of clusters (kmeans, gmm); default: by silhouette, or BIC"
    )
    halves: int = _setting(
        10,
        MAPS,
        "random halves of the cells behind the stability of clusters; three times as "
        "many at the layer shown",
    )
    permutations: int = _setting(50, MAPS, "label permutations behind each null")
    # Feature images
    gallery: int = _setting(
        12, IMAGES, "feature images per layer, of the channels that matter most; 0 for all"
    )
    cards: int = _setting(6, IMAGES, "channels per layer that are described by the cells they need")
    atlas: int = _setting(8, IMAGES, "tiles of the atlas along a side; 0 for none")
    steps: int | None = _setting(None, IMAGES, "optimisation steps")
    prior: str = _setting(
        "cells",
        IMAGES,
        "what the cells say an image may look like: 'cells', 'components', 'accentuation', "
        "'spectrum', 'range' (nothing but intensities), or 'none' (regularised, without cells)",
    )
    kinds: int = _setting(
        4, IMAGES, "images of each channel that matters most, one per kind of cell"
    )
    parametrisation: str = _setting("fourier", IMAGES, "'fourier' or 'pixels'; with --prior none")
    source: str = _setting(
        "self", IMAGES, "modulate by the activation map of the image itself ('self') or of a cell"
    )
    explain: int = _setting(2, IMAGES, "cells per class whose class is explained")
    targets: list[str] = _setting(
        [],
        IMAGES,
        "what cells are paired for: a class, or a channel as layer/number; default: chosen",
        flag="--target",
    )
    pairs: int = _setting(
        12,
        IMAGES,
        "targets (classes, channels) of which cells with less and with more are paired; 0 for none",
    )
    judges: int = _setting(
        0,
        IMAGES,
        "also edit cells, judged by so many networks (2) that are trained on other parts of the "
        "cells; 0: real cells only",
    )
    # Report
    figures: str = _setting(
        "all", REPORT, "those that are drawn: 'all', or 'main', without those shown on demand"
    )
    svg: bool = _setting(False, REPORT, "write every figure as SVG too, for print and for editing")
    # Machine
    seed: int = _setting(0, MACHINE, "seed of everything random")
    device: str | None = _setting(None, MACHINE, "cpu or cuda; default: the GPU where there is one")
    threads: int | None = _setting(
        None,
        MACHINE,
        "CPU cores to use, by processes side by side, or by threads where crops or network are "
        "large; default: all",
    )
    batch_size: int | None = _setting(
        None, MACHINE, "cells per forward pass; default: 128, on a GPU 2048"
    )
    isolate: bool = _setting(
        False,
        MACHINE,
        "decode images and tables in a process of their own: for files that are not your own",
    )
    quick: bool = _setting(False, MACHINE, "a first look: fewer cells, epochs, channels and steps")

    def __init__(self, **given: Any) -> None:
        """Raises SettingError for a name that is no setting, and for a value out of range."""
        known = {setting.name: setting for setting in fields(self)}
        for name in set(given) - set(known):
            raise SettingError(f"'{name}' is no setting; choose from: {', '.join(known)}")
        for name, setting in known.items():
            value = _QUICK.get(name) if given.get("quick") else None
            if value is None:
                made = setting.default_factory
                value = setting.default if made is MISSING else made()
            object.__setattr__(self, name, given.get(name, value))
        if not self.methods:
            object.__setattr__(self, "methods", ["tsne", "pca"])
        self._check()

    def _check(self) -> None:
        for name, allowed in _CHOICES.items():
            value = getattr(self, name)
            for entry in value if isinstance(value, list) else [value]:
                if entry not in allowed:
                    raise SettingError(
                        f"--{name.replace('_', '-')} '{entry}': choose from {', '.join(allowed)}"
                    )
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise SettingError(
                    f"--{name.replace('_', '-')} {value}: allowed is {low} to {high:g}"
                )

    @classmethod
    def of_run(cls, folder: "RunFolder", **given: Any) -> "StudySettings":
        """The settings of a run, but for those given.

        Names that this version does not know are left out, and so is the permission to unpickle,
        which a run cannot give itself.
        """
        known = {setting.name for setting in fields(cls)} - {"allow_pickle"}
        stored = {name: value for name, value in folder.settings.items() if name in known}
        if given.get("quick") and not stored.get("quick"):
            usual = asdict(cls())
            stored = {name: value for name, value in stored.items() if value != usual[name]}
        return cls(**{**stored, **given})


def of_held_stages(names: Iterable[str]) -> list[str]:
    """Those settings that only the cells and the classifier have, which a finished run holds."""
    panels = {setting.name: setting.metadata["panel"] for setting in fields(StudySettings)}
    later = ("folds", "equalised")
    return [n for n in names if panels.get(n) in (CELLS, CLASSIFIER) and n not in later]


_CHOICES = {
    "outputs": ("classes", "labels", "values", "embedding"),
    "blank": ("nothing", "neighbours", "surroundings"),
    "intensity": ("dataset", "image", "none"),
    "masks": ("ignore", "blank", "crop"),
    "reduction": ("mean", "max", "centre", "flat"),
    "methods": ("tsne", "pca", "umap", "pacmap"),
    "clustering": ("kmeans", "gmm", "hdbscan", "leiden"),
    "prior": ("cells", "components", "accentuation", "spectrum", "range", "none"),
    "parametrisation": ("fourier", "pixels"),
    "figures": ("all", "main"),
}
_RANGES: dict[str, tuple[float, float]] = {
    "size": (8, 1024),
    "window": (4, 1024),
    "pixel_size": (1e-6, 1e6),
    "limit": (40, float("inf")),
    "epochs": (1, 10_000),
    "equalised": (0, 1_000_000),
    "depths": (2, 10_000),
    "map_cells": (50, 10_000_000),
    "n_clusters": (2, 100),
    "halves": (2, 1000),
    "permutations": (20, 10_000),
    "gallery": (0, 100_000),
    "cards": (0, 100),
    "atlas": (0, 64),
    "kinds": (0, 16),
    "steps": (1, 10_000),
    "explain": (0, 50),
    "pairs": (0, 1000),
    "judges": (0, 8),
    "threads": (1, 1024),
    "batch_size": (1, 65_536),
}
_QUICK: dict[str, Any] = {
    "limit": 400,
    "epochs": 6,
    "folds": "none",
    "equalised": 0,
    "depths": 4,
    "methods": ["tsne"],
    "map_cells": 400,
    "permutations": 20,
    "halves": 3,
    "gallery": 3,
    "cards": 2,
    "atlas": 5,
    "kinds": 0,
    "steps": 24,
    "explain": 1,
    "pairs": 3,
    "figures": "main",
}
