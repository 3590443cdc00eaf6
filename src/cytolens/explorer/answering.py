"""The network's answers: what it sees in cells, what decides a class, where new cells lie."""

import base64
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import RunError
from cytolens.explorer.pictures import as_bytes, png
from cytolens.records.features import CellExplanation, FeatureImages
from cytolens.records.layers import Layer

Say = Callable[..., None]
Check = Callable[[], None]

STEPS = (4, 12, 32)
"""Steps of gradient ascent of the pictures that are shown one after another."""

_REST = 4096  # other cells that a selection is compared with, at most
_REFERENCES = 64  # cells that an explained cell is compared with, as in the study


class Answering:
    """The run with its network, in the process that may load torch.

    Each question is a method. It is given ``say``, which changes what is known of its answer, and
    ``check``, which raises where the answer is no longer of interest.
    """

    def __init__(self, run: str, trusted: bool) -> None:
        import torch

        from cytolens.classifier.threads import threads_for
        from cytolens.figures.display import display_of_cells
        from cytolens.study.finished_run import FinishedRun

        self.run = FinishedRun(run, trust_model=trusted)
        self.mapped: NDArray[np.int64] = self.run["mapped"]
        self.drawn = display_of_cells(self.run.cells)
        self.network = self.run["network"]
        torch.set_num_threads(threads_for(self.network))
        self.layers: dict[str, Layer] = {layer.name: layer for layer in self.run.layers}
        self._images: dict[str, FeatureImages] = {}  # by layer, with those made here
        self._references: NDArray[np.float32] | None = None

    def make_ready(self) -> None:
        """What the first question needs beyond the network."""
        with suppress(RunError):  # said when it is asked for
            self.run["ascents"]

    def see(
        self,
        say: Say,
        check: Check,
        *,
        layer: str,
        cells: Sequence[int],
        others: Sequence[int] | None,
    ) -> None:
        """Pictures of what the network sees in cells at a depth, and not in the others.

        The direction is from the mean of all (or of both) to the mean of ``cells``, whitened, in
        the space of the layer's channels. Each picture is made anew, with more steps.
        """
        from cytolens.features.objectives import direction
        from cytolens.features.optimisation import feature_images

        say(state="working", note="comparing the cells")
        ascents = self.run["ascents"]
        features, members = self._compared(layer, cells, others)
        toward = _direction(features, members)
        check()
        objective = direction(layer, toward, names=["the chosen cells"])
        for steps in STEPS:
            say(note=f"{steps} steps")
            ascent = replace(ascents.ascent, steps=steps)

            def progress(done: int, total: int, note: str) -> None:
                del done, total, note
                check()

            options: dict[str, Any] = {**ascents.options, "ascent": ascent}
            made = feature_images(self.network, objective=objective, progress=progress, **options)
            check()
            content = {"picture": self._picture(made.images[0]), "steps": steps, "last": STEPS[-1]}
            say(content={**content, **self._origin(made)})
        say(state="done", note="")

    def explain(self, say: Say, check: Check, *, cell: int, layer: str | None) -> None:
        """The channels that decide a cell's class, where each is active in it, and what remains.

        ``layer``: one with positions; without it the deepest that sees at most a third of a crop,
        which is where the study explains cells. Channels without a feature image are shown by the
        cell itself at first, then by an image that is made for them.
        """
        from cytolens.features.modulation import explain_cell

        say(state="working", note="running the network on this cell")
        at = self._explaining(layer)
        row = int(self.mapped[cell])
        crop = self.run.cells.read(np.array([row]))[0]

        def explained(images: FeatureImages | None) -> CellExplanation:
            return explain_cell(
                self.network, crop, layer=at, features=images, references=self._contrasting()
            )

        images = self._images_of(at.name)
        found = explained(images)
        check()
        say(content=self._explanation(found, images))
        known = [] if images is None else images.channels.tolist()
        missing = [channel for channel in found.channels.tolist() if channel not in known]
        if missing:
            say(note=f"making the images of {len(missing)} more channels")
            images = self._made_also(at.name, missing, check)
            check()
            say(content=self._explanation(explained(images), images))
        say(state="done", note="")

    def place(self, say: Say, check: Check, *, folder: str) -> None:
        """New cells in a folder, on all maps."""
        from cytolens.numerics.threads import asked_threads, limited_threads

        with limited_threads(asked_threads() or 1):
            self._place(say, check, folder)

    def _place(self, say: Say, check: Check, folder: str) -> None:
        from cytolens.images.new_cells import read_alike
        from cytolens.study.place import OldMaps

        say(state="working", note="reading the new cells")
        found = next(Path(folder).iterdir()) if len(list(Path(folder).iterdir())) == 1 else folder
        cells = read_alike(found, self.run.cells, isolate=True)  # from the browser: of anyone
        check()
        say(note="running the network")
        maps = OldMaps(self.run)
        features, outputs = maps.features(cells)

        def progress(done: int, total: int, note: str) -> None:
            say(note=f"placing at {note} ({done + 1} of {total})")
            check()

        placed = maps.place(cells, features, outputs, progress=progress)
        sure = placed.probabilities
        crops = as_bytes(cells.read(slice(None)), self.drawn)
        say(
            state="done",
            note="",
            content={
                "names": [Path(name).name for name in placed.names.tolist()],
                "predicted": placed.answered.likely.tolist(),
                "confidence": None if sure is None else np.round(sure.max(axis=1), 4).tolist(),
                "odd": placed.overall.odd.tolist(),
                "depths_odd": placed.depths_odd.tolist(),
                "places": {
                    method: {
                        layer: self._on_map(method, layer, where)
                        for layer, where in by_layer.items()
                    }
                    for method, by_layer in placed.places.items()
                },
                "pictures": [self._encoded(crop) for crop in crops[:200]],
                "remarks": list(cells.remarks),
            },
        )

    def _explaining(self, layer: str | None) -> Layer:
        """The layer to explain cells at. Raises RunError where there is none."""
        from cytolens.features.saliency import explaining_layer

        spatial = [a for a in self.layers.values() if len(a.shape) == 3 and a.kind != "input"]
        if layer is None:
            found = explaining_layer(spatial, self.network.input_shape[1])
            if found is None:
                raise RunError("this network has no layer with positions")
            return found
        if layer not in self.layers or self.layers[layer] not in spatial:
            raise RunError("at this depth there are no positions; choose another")
        return self.layers[layer]

    def _contrasting(self) -> NDArray[np.float32]:
        """Held-out crops; those of other classes are what a cell is compared with."""
        if self._references is None:
            rows = np.random.default_rng(self.run.settings.seed).permutation(self.run["split"].test)
            self._references = self.run.cells.read(np.sort(rows[:_REFERENCES]))
        return self._references

    def _images_of(self, layer: str) -> FeatureImages | None:
        """Feature images of a layer's channels: the study's, and those made here."""
        if layer not in self._images and self.run.folder.has("features"):
            for found in self.run["features"].channels:
                self._images.setdefault(found.layer, found)
        return self._images.get(layer)

    def _made_also(self, layer: str, channels: list[int], check: Check) -> FeatureImages:
        """The same with images of more channels, made as the study's own."""
        from cytolens.features.optimisation import feature_images

        def progress(done: int, total: int, note: str) -> None:
            del done, total, note
            check()

        held, ascents = self._images_of(layer), self.run["ascents"]
        if held is not None:
            ascents = ascents.alike(held)
        more = feature_images(
            self.network, layer=layer, channels=channels, progress=progress, **ascents.options
        )
        self._images[layer] = more if held is None else held.joined(more)
        return self._images[layer]

    def _origin(self, made: FeatureImages) -> dict[str, Any]:
        """The cell that an image began as, and how like the image is to it and to the nearest."""
        if made.starts is None or made.similarity is None:
            return {}
        likeness, nearest = float(made.likeness_to_start[0]), float(made.similarity[0])
        return {
            "start": self._picture(made.starts[0]),
            "likeness": round(likeness, 2), "nearest": round(nearest, 2),
        }  # fmt: skip

    def _explanation(self, found: CellExplanation, images: FeatureImages | None) -> dict[str, Any]:
        """An explanation as the page is given it."""
        rows = {} if images is None else {int(c): k for k, c in enumerate(images.channels)}
        channels: list[dict[str, Any]] = []
        for k, channel in enumerate(found.channels.tolist()):
            own = rows.get(channel)
            image = None if images is None or own is None else self._picture(images.images[own])
            channels.append(
                {
                    "channel": channel,
                    "contribution": float(f"{found.contributions[k]:.4g}"),
                    "image": image,
                    "map": _as_grey(found.modulated.gain[k]),
                    "modulated": self._picture(found.modulated.images[k]),
                }
            )
        return {
            "layer": found.layer, "predicted": found.predicted_class,
            "probability": round(found.probability, 4), "channels": channels,
            "sum": self._picture(found.total), "saliency": _as_grey(found.saliency),
        }  # fmt: skip

    def _compared(
        self, layer: str, cells: Sequence[int], others: Sequence[int] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Features of the cells and of those that they are compared with; rows of the former."""
        if layer not in self.layers:
            raise RunError("there is no such layer")
        rng = np.random.default_rng(0)
        if others is None:
            rest = np.arange(len(self.mapped))
            rest = np.sort(rng.permutation(rest)[:_REST])
        else:
            rest = np.sort(rng.permutation(others)[:_REST])
        chosen = np.sort(rng.permutation(cells)[:_REST])
        used = np.union1d(chosen, rest)
        features = self.run.activations.rows(layer, self.mapped[used])
        if features.shape[1] != self.layers[layer].channels:
            raise RunError("this layer has no channels; choose another depth")
        return features, np.flatnonzero(np.isin(used, chosen))

    def _picture(self, image: NDArray[np.float32]) -> dict[str, Any]:
        crop = as_bytes(image[None], self.drawn)[0]
        return {"channels": self._encoded(crop), "colour": self.drawn.colour}

    def _encoded(self, crop: NDArray[np.uint8]) -> list[str]:
        """A crop (C, H, W) as PNGs in base64: one in colour, or one per image channel."""
        planes = [crop] if self.drawn.colour else [crop[c : c + 1] for c in range(len(crop))]
        return [base64.b64encode(png(plane)).decode("ascii") for plane in planes]

    def _on_map(self, method: str, layer: str, where: NDArray[np.float32]) -> list[list[float]]:
        """Places (n, 2) in the steps of the page's map, 0…65535, and outside of it."""
        from cytolens.explorer.content import on_square

        known = self.run.maps[method][layer].coordinates
        return np.round(on_square(where, known) * 65_535).astype(int).tolist()


def _as_grey(shares: NDArray[np.floating]) -> dict[str, Any]:
    """Values (H, W) between 0 and 1 as a grey picture."""
    grey = np.round(255 * np.clip(shares, 0, 1)).astype(np.uint8)
    return {"channels": [base64.b64encode(png(grey[None])).decode("ascii")], "colour": False}


def _direction(features: NDArray[np.float32], members: NDArray[np.int64]) -> NDArray[np.float64]:
    from cytolens.features.directions import whitened_directions

    if len(members) == 0 or len(members) == len(features):
        raise RunError("choose some of the cells, not none and not all")
    found = whitened_directions(features, [members])
    if not np.linalg.norm(found[0]) > 0:
        raise RunError("at this depth these cells are like all others; choose another depth")
    return found
