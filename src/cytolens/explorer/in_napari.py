"""A finished run as layers of napari: its crops, maps, gates and feature images.

napari finds this by ``napari.yaml`` and asks about every path that is dropped onto it, so nothing
heavy is loaded before a path is known to be a run. Nothing here needs napari itself.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

LayerData = tuple[Any, dict[str, Any], str]
"""Data, attributes and kind of a layer, as napari's readers give them."""

_MOST_COLUMNS = 60  # of what is known of a cell


def get_reader(path: str | Sequence[str]) -> Callable[[Any], list[LayerData]] | None:
    """napari's hook: what reads ``path`` where it is the folder of a run, else None."""
    if not isinstance(path, str):
        path = path[0] if len(path) == 1 else ""
    if not path or not (Path(path) / "run.json").is_file():
        return None
    return layers_of_run


def layers_of_run(path: str | Path | Sequence[str]) -> list[LayerData]:
    """The layers of a run, of the cells on its maps.

    - an image layer per image channel: the crops (N, H, W) in the files' intensities, read from
      the run when they are shown;
    - points per map, with what is known of every cell, coloured by class, and in the columns
      ``gate <name>`` whether it is in a gate; the map of the main layer is shown, others hidden;
    - points per gate, on the map of the main layer;
    - an image layer per layer of the network: its feature images (target, C, H, W), hidden.

    Raises RunError where the run lacks maps.
    """
    import numpy as np

    from cytolens.explorer.gates import Gates
    from cytolens.study.finished_run import open_run

    run = open_run(path if isinstance(path, str | Path) else path[0])
    run.require("maps")
    mapped = run["mapped"]
    cells = run.cells.subset(mapped)
    size = cells.pixel_size or 1.0
    layers: list[LayerData] = []
    for i, name in enumerate(cells.channel_names):
        low, high = (np.array(limits) for limits in (cells.preparation.low, cells.preparation.high))
        about = {
            "name": f"cells: {name}",
            "scale": (1.0, size, size),
            "contrast_limits": (float(low[i]), float(max(high[i], low[i] + 1e-6))),
            "colormap": "gray",
            "visible": i == 0,
            "metadata": {"names": cells.names.tolist()},
        }
        layers.append((ChannelOfCells(cells, i), about, "image"))
    gates = Gates(run.folder.path, mapped).members()
    columns = _columns(cells)
    for name, members in gates.items():
        columns[f"gate {name}"] = np.isin(mapped, members)
    main = run["main_layer"]
    on: Any = np.zeros((0, 2))  # the map that gates are drawn on
    for method, by_layer in run.maps.items():
        for layer, embedding in by_layer.items():
            places = _in_image_axes(embedding.coordinates)
            chosen = layer == main and not len(on)
            on = places if chosen else on
            about = {
                "name": f"map: {method} {layer}",
                "features": columns,
                "face_color": "class",
                "size": 0.01 * float(np.ptp(places)),
                "border_width": 0,
                "visible": chosen,
                "metadata": {"quality": dict(embedding.quality)},
            }
            layers.append((places, about, "points"))
    for name, members in gates.items() if len(on) else ():
        inside = np.isin(mapped, members)
        about = {
            "name": f"gate: {name}",
            "face_color": "transparent",
            "border_color": "yellow",
            "size": 0.015 * float(np.ptp(on)),
            "features": {key: values[inside] for key, values in columns.items()},
            "visible": False,
        }
        layers.append((on[inside], about, "points"))
    if run.folder.has("features"):
        for layer, found in run.feature_images.items():
            about = {
                "name": f"feature images: {layer}",
                "colormap": "gray",
                "visible": False,
                "metadata": {"targets": list(found.targets), "channels": list(cells.channel_names)},
            }
            layers.append((found.images, about, "image"))
    return layers


def _columns(cells: Any) -> dict[str, Any]:
    """What is known of every cell, as arrays (N,)."""
    import numpy as np

    columns: dict[str, Any] = {
        "name": cells.names,
        "class": np.array([*cells.class_names, "unknown"])[cells.labels],
    }
    if cells.groups is not None:
        columns[cells.group_name or "group"] = cells.groups
    for name, values in list(cells.covariates.items())[:_MOST_COLUMNS]:
        columns.setdefault(name, np.asarray(values))
    return columns


def _in_image_axes(coordinates: Any) -> Any:
    """Places (N, 2) as napari has them: first down, then right."""
    import numpy as np

    return np.stack([-coordinates[:, 1], coordinates[:, 0]], axis=1)


class ChannelOfCells:
    """The crops of one image channel as an array (N, H, W) that is read when it is indexed."""

    def __init__(self, cells: Any, channel: int) -> None:
        self._images, self._channel = cells.images, channel
        n, _, height, width = cells.images.shape
        self.shape: tuple[int, int, int] = (n, height, width)
        import numpy as np

        self.dtype = np.dtype(cells.preparation.dtype)
        self.ndim = 3

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Any:
        import numpy as np

        first, *rest = index if isinstance(index, tuple) else (index,)
        if first is Ellipsis:
            first, rest = slice(None), [Ellipsis, *rest]
        single = isinstance(first, int | np.integer)
        rows = np.atleast_1d(np.arange(len(self))[first])
        crops = self._images.read_raw(rows)[:, self._channel]
        found = crops[0] if single else crops
        if not rest:
            return found
        return found[tuple(rest)] if single else found[(slice(None), *rest)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        del copy
        found = self[:]
        return found if dtype is None else found.astype(dtype)
