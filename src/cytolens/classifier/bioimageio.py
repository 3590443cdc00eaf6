"""Networks in the format of bioimage.io: its model description, read as a model card.

Versions 0.4 and 0.5 (https://bioimage-io.github.io/spec-bioimage-io). Taken are the places of code
and weights, the size and names of what goes in and comes out, and the preprocessing.
Nothing is run and nothing is fetched when it is read.
"""

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cytolens.classifier.card import OUTPUTS, CropNormalisation, ModelCard, Normalisation
from cytolens.errors import ModelError

_GENERIC = re.compile(r"(channel|output|class)?[ _-]?\d+", re.IGNORECASE)
_LAYOUTS = {"bcyx": "bcyx", "batch,channel,y,x": "bcyx"}
_STATE = "pytorch_state_dict"


def is_description(entries: Mapping[str, Any]) -> bool:
    """Whether the entries of a file are those of a model of bioimage.io."""
    return entries.get("type") == "model" and "format_version" in entries


def card_of_description(path: Path, entries: Mapping[str, Any]) -> ModelCard:
    """The model card that a description (``rdf.yaml``) amounts to; its files lie next to it.

    Raises ModelError for what cannot be studied: weights without the code that makes the network,
    several inputs, crops that are not square or not (batch, channel, y, x), other preprocessing.
    """
    try:
        return _card(path, entries)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise ModelError(
            f"'{path}' is no model description of bioimage.io 0.4 or 0.5 as cytolens reads it: "
            f"{type(error).__name__} {error}"
        ) from error


def _card(path: Path, entries: Mapping[str, Any]) -> ModelCard:
    inputs, outputs = entries["inputs"], entries["outputs"]
    for what, tensors in (("inputs", inputs), ("outputs", outputs)):
        if len(tensors) != 1:
            raise ModelError(
                f"'{path}' has {len(tensors)} {what}; only networks that take crops alone and give "
                "one tensor can be studied"
            )
    channels, size = _of_input(path, inputs[0])
    given = _channel_names(outputs[0])
    ours: Mapping[str, Any] = (entries.get("config") or {}).get("cytolens") or {}
    kind = ours.get("outputs", "classes")
    code, arguments, weights = _network(path, entries["weights"])
    return ModelCard(
        model=code,
        weights=weights,
        outputs=kind if kind in OUTPUTS else "classes",
        class_names=given,
        size=size,
        channels=channels,
        normalisation=_normalisation(path, inputs[0]),
        arguments=arguments or None,
    )


# What goes in and comes out --------------------------------------------------------------------


def _of_input(path: Path, tensor: Mapping[str, Any]) -> tuple[tuple[str, ...] | None, int | None]:
    """Names of the image channels, and the side of a crop; None: not said."""
    axes = tensor["axes"]
    if isinstance(axes, str):  # 0.4
        layout, shape = axes, tensor["shape"]
        fixed = isinstance(shape, Sequence)
        sides: list[Any] = list(shape[-2:]) if fixed else [None, None]
    else:
        kinds = [axis["type"] if axis["type"] != "space" else axis["id"] for axis in axes]
        layout = _LAYOUTS.get(",".join(kinds), ",".join(kinds))
        sides = [axis.get("size") for axis in axes[-2:]]
    if layout != "bcyx":
        raise ModelError(
            f"'{path}' takes tensors of the axes {layout}; cytolens gives a network crops of "
            "(batch, channel, y, x)"
        )
    height, width = (side if isinstance(side, int) else None for side in sides)
    if height != width:
        raise ModelError(f"'{path}' takes crops of {height} × {width} px; only square ones are cut")
    return _channel_names(tensor), height


def _channel_names(tensor: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Names along the channel axis; None where there are none, or mere numbers."""
    axes = tensor["axes"]
    if isinstance(axes, str):
        return None
    named = [axis for axis in axes if axis["type"] == "channel"]
    names = [str(name) for name in named[0].get("channel_names") or ()] if named else []
    return None if not names or all(_GENERIC.fullmatch(name) for name in names) else tuple(names)


# Preprocessing ---------------------------------------------------------------------------------


def _normalisation(path: Path, tensor: Mapping[str, Any]) -> Normalisation | CropNormalisation:
    """All of the preprocessing as one: linear steps are joined; nothing at all is (x - 0) / 1."""
    gain, offset = [1.0], [0.0]
    steps = [step for step in tensor.get("preprocessing") or () if _name(step) != "ensure_dtype"]
    for step in steps:
        name, options = _name(step), step.get("kwargs") or {}
        linear = _linear(name, options)
        if linear is not None:
            more, shift = linear
            gain, offset, more, shift = _as_long(gain, offset, more, shift)
            offset = [o * m + s for o, m, s in zip(offset, more, shift)]
            gain = [g * m for g, m in zip(gain, more)]
        elif name in ("zero_mean_unit_variance", "scale_range") and len(steps) == 1:
            return _of_each_crop(path, name, options)
        else:
            raise ModelError(
                f"'{path}': the preprocessing {' and '.join(map(_name, steps))} is not one that a "
                "model card can hold; let the network do it, in a module around it"
            )
    if min(gain) <= 0:
        raise ModelError(f"'{path}': its preprocessing turns intensities round (gain {min(gain)})")
    n = _n_channels(tensor)
    gain, offset, _, _ = _as_long(gain, offset, [1.0] * n, [0.0] * n)
    mean = tuple(-o / g for g, o in zip(gain, offset))
    return Normalisation(mean, tuple(1 / g for g in gain))


def _name(step: Mapping[str, Any]) -> str:
    return str(step.get("id") or step["name"])  # 0.5, 0.4


def _linear(name: str, options: Mapping[str, Any]) -> tuple[list[float], list[float]] | None:
    """Gain and offset by image channel of a step that is x ↦ gain · x + offset; else None."""
    if name == "scale_linear":
        return _numbers(options.get("gain", 1.0)), _numbers(options.get("offset", 0.0))
    fixed = name == "fixed_zero_mean_unit_variance" or options.get("mode") == "fixed"
    if fixed and "mean" in options and "std" in options:
        mean, std = _numbers(options["mean"]), _numbers(options["std"])
        return [1 / s for s in std], [-m / s for m, s in zip(mean, std, strict=True)]
    return None


def _of_each_crop(path: Path, name: str, options: Mapping[str, Any]) -> CropNormalisation:
    axes = options.get("axes")
    each = axes is not None and "channel" not in axes and "c" not in axes
    batch = axes is not None and ("batch" in axes or "b" in axes)
    data = options.get("mode") == "per_dataset" or options.get("reference_tensor") is not None
    if batch or data:
        raise ModelError(
            f"'{path}': {name} over many crops at once makes what a cell is to the network depend "
            "on the others; give a fixed mean and std instead"
        )
    percentiles = None
    if name == "scale_range":
        ends = (options.get("min_percentile", 0.0), options.get("max_percentile", 100.0))
        percentiles = (float(ends[0]), float(ends[1]))
    return CropNormalisation(percentiles, float(options.get("eps", 1e-6)), each)


def _numbers(value: Any) -> list[float]:
    numbers = [float(v) for v in (value if isinstance(value, list) else [value])]
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"{numbers} in the preprocessing")
    return numbers


def _as_long(*lists: list[float]) -> tuple[list[float], ...]:
    """The same, one number repeated where another list has one for each image channel."""
    n = max(map(len, lists))
    if any(len(values) not in (1, n) for values in lists):
        raise ValueError(f"{sorted({len(values) for values in lists})} numbers for image channels")
    return tuple(values * n if len(values) == 1 else values for values in lists)


def _n_channels(tensor: Mapping[str, Any]) -> int:
    axes = tensor["axes"]
    if isinstance(axes, str):
        shape = tensor["shape"]
        return int((shape if isinstance(shape, Sequence) else shape["min"])[axes.index("c")])
    return len(next(axis for axis in axes if axis["type"] == "channel")["channel_names"])


# Code and weights ------------------------------------------------------------------------------


def _network(path: Path, weights: Mapping[str, Any]) -> tuple[str, dict[str, Any], str]:
    """The factory, its arguments, and the file of weights."""
    entry = weights.get(_STATE)
    if not entry:
        raise ModelError(
            f"'{path}' holds {' and '.join(sorted(weights)) or 'no weights'}, which are exported "
            "programs: they hide their layers. Only pytorch_state_dict can be studied; else give "
            "the code that makes the network (--model file.py:function) and its state dict "
            "(--weights)"
        )
    file = _beside(path, entry["source"], entry.get("sha256"))
    made = entry["architecture"]
    if isinstance(made, str):  # 0.4: file.py:Name, or package.module.Name
        place, colon, name = made.rpartition(":" if ":" in made else ".")
        arguments = entry.get("kwargs") or {}
        source = place if colon == ":" else None
        hashed = entry.get("architecture_sha256")
    else:
        source, name = made.get("source"), made["callable"]
        place, arguments = source or made["import_from"], made.get("kwargs") or {}
        hashed = made.get("sha256")
    if source is not None:
        place = str(_beside(path, source, hashed))
    return f"{place}:{name}", dict(arguments), str(file)


def _beside(path: Path, source: Any, sha256: Any) -> Path:
    """A file of the package, which lies next to the description and is what it says it is."""
    name = str(source["source"] if isinstance(source, Mapping) else source)
    folder = path.parent.resolve()
    if "://" in name:
        raise ModelError(
            f"'{path}' names '{name}', which is not here; unpack the whole package of the model "
            "(.zip) and name the rdf.yaml in it"
        )
    file = (folder / name).resolve()
    if not file.is_relative_to(folder):
        raise ModelError(f"'{path}' names '{name}', which leads out of its folder")
    if not file.is_file():
        raise ModelError(f"'{path}' names '{name}', which is not next to it; unpack the package")
    if sha256 is not None:
        with file.open("rb") as content:
            if hashlib.file_digest(content, "sha256").hexdigest() != sha256:
                raise ModelError(f"'{name}' is not the file that '{path}' was written with")
    return file
