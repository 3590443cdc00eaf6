"""Pictures of a finished run for the page: feature images, modulated ones, cells explained."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.explorer.content import Content
from cytolens.explorer.pictures import as_bytes
from cytolens.figures.display import Display
from cytolens.figures.origins import largest_change, tint_change
from cytolens.numerics.estimates import Estimate
from cytolens.records.contrast import ContrastPairs, Contrasts
from cytolens.records.features import ChannelContext, FeatureImages, FieldImages
from cytolens.study.finished_run import FinishedRun

_PAIRS = 3  # of real cells, of each channel
_PATCHES = 2  # of cells, of each channel on its field


def add_galleries(
    content: Content, run: FinishedRun, mapped: NDArray[np.int64], drawn: Display
) -> None:
    """Add all pictures that the run holds, and what is known of the channels that they show.

    mapped: the cells on the maps (N,), as places in the run.
    """
    _Galleries(content, run, mapped, drawn).add()


class _Galleries:
    def __init__(
        self, content: Content, run: FinishedRun, mapped: NDArray[np.int64], drawn: Display
    ) -> None:
        self._content, self._run, self._mapped, self._drawn = content, run, mapped, drawn

    def _held(self, stage: str) -> Any:
        return self._run[stage] if self._run.folder.has(stage) else None

    def add(self) -> None:
        features, modulated = self._held("features"), self._held("modulated")
        channels: dict[str, dict[str, Any]] = {}
        if features is not None:
            on_fields = {one.layer for one in features.fields}
            change = largest_change(features.channels)
            for images in features.channels:
                self._add_images("feature image", images)
                self._add_origins("", images, change)
                channels[images.layer] = self._about_channels(images)
            for found in features.fields:
                self._add_field(found)
            for images in features.unconstrained:
                if images.layer not in on_fields:  # where those of whole crops are these
                    self._add_images("without a prior", images)
            for kind, images in (("class", features.classes), ("cluster", features.clusters)):
                if images is not None:
                    self._add_images(kind, images)
                    self._add_origins(f"{kind} ", images, largest_change([images]))
        if modulated is not None:
            for images in modulated.galleries:
                self._add_images("modulated image", images)
            self._explanations(modulated.explanations)
        contrasts = self._held("contrasts")
        if contrasts is not None:
            self._add_pairs(contrasts)
        self._content.manifest["channels"] = channels

    def _add_pairs(self, contrasts: Contrasts) -> None:
        """Pairs of real cells with less and with more of each channel, layer by layer."""
        by_layer: dict[str, list[ContrastPairs]] = {}
        for pairs in contrasts.pairs:
            if pairs.target.kind == "channel" and len(pairs.less) >= _PAIRS:
                by_layer.setdefault(pairs.target.layer, []).append(pairs)
        for layer, found in by_layer.items():
            both = [np.stack([one.less[:_PAIRS], one.more[:_PAIRS]], axis=1) for one in found]
            pictures = np.concatenate([one.reshape(-1, *one.shape[2:]) for one in both])
            self._content.add_gallery(
                f"contrast/{layer}", as_bytes(pictures, self._drawn), colour=self._drawn.colour,
                kind="contrast pair", layer=layer, targets=[one.target.name for one in found],
                indices=[int(one.target.weights.argmax()) for one in found],
                frames=["less", "more"] * _PAIRS,
            )  # fmt: skip

    def _add_field(self, found: FieldImages) -> None:
        """Images of a layer's channels on what they see, and the patches that drive them most."""
        made = found.likely or found.made
        about: dict[str, Any] = {
            "layer": found.layer, "targets": [f"channel {channel}" for channel in made.channels],
            "indices": [int(channel) for channel in made.channels], "colour": self._drawn.colour,
        }  # fmt: skip
        size = f"{made.images.shape[-1]} × {made.images.shape[-2]} px"
        self._content.add_gallery(
            f"field/{found.layer}", as_bytes(made.images, self._drawn), kind="on its field",
            size=size, **about,
        )  # fmt: skip
        patches = found.patches[:, :_PATCHES]
        frames = ["strongest patch of a cell", *["of another cell"] * (patches.shape[1] - 1)]
        shown = np.concatenate([patches, found.made.images[:, None]], axis=1)
        self._content.add_gallery(
            f"patches/{found.layer}", as_bytes(shown.reshape(-1, *shown.shape[2:]), self._drawn),
            kind="patches", frames=[*frames, "image without a prior"], **about,
        )  # fmt: skip

    def _add_origins(self, of: str, images: FeatureImages, change: float) -> None:
        """The cells that images began as, and what was changed of each, by image channel.

        ``of``: put before the names of these galleries, "" for images of channels.
        """
        if images.starts is None:
            return
        colour = self._drawn.colour
        about: dict[str, Any] = {
            "layer": images.layer, "targets": list(images.targets),
            "indices": [int(channel) for channel in images.channels],
        }  # fmt: skip
        self._content.add_gallery(
            f"{of}start/{images.layer}", as_bytes(images.starts, self._drawn), colour=colour,
            kind="start", likeness=numbers(images.likeness_to_start),
            nearest=[] if images.similarity is None else numbers(images.similarity), **about,
        )  # fmt: skip
        moved = images.images - images.starts
        if colour:
            moved = moved.mean(axis=1, keepdims=True)
        pictures = np.moveaxis(np.round(255 * tint_change(moved, change)).astype(np.uint8), -1, 2)
        self._content.add_gallery(
            f"{of}change/{images.layer}", pictures.reshape(-1, *pictures.shape[2:]), colour=True,
            kind="change", frames=["change"] if moved.shape[1] == 1 else list(self._drawn.views),
            **about,
        )  # fmt: skip

    def _add_images(self, kind: str, images: Any) -> None:
        drawn = self._drawn
        if not len(images.images) or images.images.shape[1] != len(drawn.limits):
            return
        about: dict[str, Any] = {
            "kind": kind, "layer": images.layer, "targets": list(images.targets),
        }  # fmt: skip
        if isinstance(images, FeatureImages):
            about["indices"] = [int(channel) for channel in images.channels]
        self._content.add_gallery(
            f"{kind}/{images.layer}", as_bytes(images.images, drawn), colour=drawn.colour, **about
        )
        maps = getattr(images, "activation_maps", None)
        if kind == "feature image" and maps is not None and maps.ndim == 3 and maps[0].size > 1:
            peak = maps.max(axis=(1, 2), keepdims=True)
            shown = np.round(255 * maps / np.where(peak > 0, peak, 1)).astype(np.uint8)
            about |= {"kind": "activation map"}
            self._content.add_gallery(
                f"activation map/{images.layer}", shown[:, None], colour=False, **about
            )

    def _about_channels(self, images: FeatureImages) -> dict[str, Any]:
        contexts = self._contexts(images.layer)
        place = {int(cell): at for at, cell in enumerate(self._mapped)}
        trust = (self._held("faithfulness") or {}).get(images.layer)
        rows: dict[str, Any] = {}
        for at, channel in enumerate(images.channels.tolist()):
            entry: dict[str, Any] = {
                "reached": number(images.activation[at]),
                "natural": numbers(images.natural[at]),
                "dead": bool(images.dead[at]),
            }
            context = contexts.get(channel)
            if context is not None:
                entry |= {
                    "importance": number(context.importance),
                    "ablation": number(context.ablation),
                    "members": [int(member) for member in context.members],
                    "best": [place[int(c)] for c in context.best if int(c) in place],
                    "edges": numbers(context.edges),
                    "histogram": [numbers(row) for row in context.histogram],
                    "auc": {name: number(value) for name, value in context.auc.items()},
                    "correlations": estimates(dict(list(context.correlations.items())[:6])),
                }
            if trust is not None and channel in trust.channels:
                row = trust.channels.tolist().index(channel)
                entry["trust"] = {k: number(v[row]) for k, v in trust.table.items()}
                entry["failure"] = trust.failures[row]
            rows[str(channel)] = entry
        return rows

    def _explanations(self, explanations: Any) -> None:
        """Cells that the study has explained by modulated images."""
        place = {int(cell): at for at, cell in enumerate(self._mapped)}
        made: dict[str, Any] = {}
        for found in explanations:
            if int(found.cell) not in place:
                continue
            cell = place[int(found.cell)]
            pictures = np.concatenate(
                [found.image[None], found.total[None], found.modulated.images]
            )
            saliency = np.round(255 * np.clip(found.saliency, 0, 1)).astype(np.uint8)
            self._content.add_gallery(
                f"explained/{cell}", as_bytes(pictures, self._drawn), colour=self._drawn.colour,
                kind="explained cell", layer=found.layer,
                targets=["crop", "sum of the modulated images", *found.modulated.targets],
            )  # fmt: skip
            self._content.add_gallery(
                f"saliency/{cell}", saliency[None, None], colour=False, kind="saliency",
                layer=found.layer, targets=["where the evidence lies"],
            )  # fmt: skip
            gain = np.round(255 * np.clip(found.modulated.gain, 0, 1)).astype(np.uint8)
            self._content.add_gallery(
                f"active/{cell}", gain[:, None], colour=False, kind="active",
                layer=found.layer, targets=list(found.modulated.targets),
            )  # fmt: skip
            made[str(cell)] = {
                "layer": found.layer,
                "channels": [int(channel) for channel in found.channels],
                "contributions": numbers(found.contributions),
                "predicted": found.predicted_class,
                "probability": number(found.probability),
            }
        self._content.manifest["explained"] = made

    def _contexts(self, layer: str) -> dict[int, ChannelContext]:
        found = (self._held("channels") or {}).get(layer, ())
        return {int(context.channel): context for context in found}


def number(value: Any) -> float | None:
    """A number for JSON, to six digits; None where there is none."""
    return float(f"{float(value):.6g}") if np.isfinite(value) else None


def numbers(values: Any) -> list[float | None]:
    """Numbers for JSON, as `number`."""
    return [number(value) for value in np.asarray(values, dtype=np.float64).ravel()]


def estimates(found: Mapping[str, Estimate]) -> dict[str, Any]:
    """Estimates by name, for JSON: what each has of value, interval and comparisons."""
    kept = ("value", "low", "high", "null", "untrained")
    return {
        name: {
            key: number(value)
            for key in kept
            if (value := getattr(estimate, key)) is not None and np.isfinite(value)
        }
        for name, estimate in found.items()
    }
