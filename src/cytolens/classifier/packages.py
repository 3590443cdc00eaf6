"""Networks of timm and of Hugging Face, where the user has these packages. They run as libraries:
no code comes with a name, and weights are read as safetensors alone.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from torch import Tensor, nn

from cytolens.classifier.factories import PACKAGES
from cytolens.errors import MissingExtra, ModelError


def make_of_package(
    package: str, name: str, weights: Mapping[str, Tensor], *, n_outputs: int | None = None,
    n_channels: int | None = None,
) -> nn.Module:  # fmt: skip
    """The network ``timm:name``, without weights, or ``hf:name``, with its own.

    The number of outputs and of image channels of a timm network are those of ``weights``, where
    there are some, else those given, else timm's own. Raises MissingExtra, ModelError.
    """
    try:
        library = import_module(PACKAGES[package])
    except ImportError:
        raise MissingExtra(f"a network named {package}:{name}", package) from None
    try:
        if package == "timm":
            return _timm(library, name, weights, n_outputs, n_channels)
        return _hugging_face(library, name)
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(f"{package} has no network '{name}' for us: {reason[0]}") from error


def what_is_known(network: nn.Module) -> dict[str, Any]:
    """What a network of one of the packages says of itself, as entries of a model card."""
    known: dict[str, Any] = {}
    timm = getattr(network, "pretrained_cfg", None) or getattr(network, "default_cfg", None)
    if isinstance(timm, Mapping):
        known["size"] = int(timm["input_size"][-1])
        mean, std = (list(map(float, timm[entry])) for entry in ("mean", "std"))
        known["normalisation"] = {"mean": mean, "std": std, "scale": 255.0}
    config: Any = getattr(network, "config", None)
    if isinstance(getattr(config, "image_size", None), int):
        known["size"] = config.image_size
    names = getattr(config, "id2label", None)
    if isinstance(names, Mapping) and names:
        known["class_names"] = [str(names[key]) for key in sorted(names, key=int)]
    return known


def _timm(
    library: Any, name: str, weights: Mapping[str, Tensor], n_outputs: int | None,
    n_channels: int | None,
) -> nn.Module:  # fmt: skip
    options: dict[str, Any] = {"num_classes": n_outputs, "in_chans": n_channels}
    if weights:
        config = library.create_model(name, pretrained=False).default_cfg
        for option, entry, axis in (
            ("num_classes", "classifier", 0),
            ("in_chans", "first_conv", 1),
        ):
            named = config.get(entry)
            first = named[0] if isinstance(named, (list, tuple)) else named
            found = [w for n, w in weights.items() if n.endswith(f"{first}.weight")]
            if first and found:
                options[option] = int(found[0].shape[axis])
    given = {option: number for option, number in options.items() if number is not None}
    return library.create_model(name, pretrained=False, **given)


def _hugging_face(library: Any, name: str) -> nn.Module:
    network = library.AutoModelForImageClassification.from_pretrained(
        name, trust_remote_code=False, use_safetensors=True
    )
    network.register_forward_hook(_logits)
    return network


def _logits(module: nn.Module, args: Any, output: Any) -> Any:
    """What the study looks at of a model's output object; module names stay as they are."""
    return getattr(output, "logits", output)
