"""The network of a study for other tools: as ONNX, or as a package in the format of bioimage.io."""

import hashlib
from copy import deepcopy
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import cytolens
from cytolens.classifier.card import Normalisation, card_of
from cytolens.classifier.factories import factory_parts, of_package
from cytolens.errors import MissingExtra
from cytolens.records.cells import Cells
from cytolens.store.files import replacing_folder, write_bytes

if TYPE_CHECKING:
    from cytolens.classifier.model import Classifier

NETWORKS = {"onnx": "network.onnx", "bioimageio": "bioimageio"}
"""What a network can be exported as, and what the file or folder is called by default."""

_FORMAT = "0.5.14"  # of the description, as bioimageio.spec 0.5.14 checks it
_PAPER = "https://arxiv.org/abs/1811.06488"
_TRIED = 4  # cells that come with a package


def write_network(
    network: "Classifier", cells: Cells, to: str, out: Path, *, model: str | None = None
) -> Path:
    """Write the network to ``out``: a file ``onnx``, or a folder ``bioimageio``; gives its path.

    ONNX takes prepared crops, as the study gives them to the network. The package takes crops in
    the files' own intensities, and says how they are prepared; it holds the weights as ONNX and,
    where ``model`` (the factory or card, None for the reference network) says how the network is
    made, as a state dict with the code. A few ``cells`` and the answers to them come with it.
    Raises MissingExtra, and ModelError where the network cannot be written.
    """
    from cytolens.classifier.onnx_files import onnx_bytes

    some = np.linspace(0, len(cells) - 1, min(_TRIED, len(cells))).astype(np.int64)
    if to == "onnx":
        if out.is_dir():
            out = out / NETWORKS["onnx"]
        write_bytes(out, onnx_bytes(network.network, cells.read(some)))
        return out
    _write_package(network, cells.subset(some), out, model)
    return out


def _write_package(network: "Classifier", cells: Cells, out: Path, model: str | None) -> None:
    import torch

    from cytolens.activations.capture import evaluating
    from cytolens.classifier.normalising import normalise_of
    from cytolens.classifier.onnx_files import INPUT, onnx_bytes

    yaml = _yaml()
    bare = deepcopy(network.network).cpu()
    hook = normalise_of(bare)
    steps = _intensity_steps(cells)
    described = hook is None or (
        isinstance(hook.how, Normalisation) and len(hook.how.mean) == cells.shape[0]
    )
    if hook is not None and described:
        bare._forward_pre_hooks.clear()  # pyright: ignore[reportPrivateUsage]
        assert isinstance(hook.how, Normalisation)
        steps = [_linear([s * hook.how.scale for s in hook.how.std],
                         [m * hook.how.scale for m in hook.how.mean])]  # fmt: skip
    raw = np.ascontiguousarray(cells.images.read_raw(slice(0, len(cells))))
    given = _as_described(raw, steps)
    with evaluating(bare), torch.no_grad():
        logits = bare(torch.from_numpy(given)).float()
        answers = (logits.softmax(1) if network.gives_classes else logits).numpy()
    files: dict[str, bytes] = {
        "crops.npy": _npy(raw),
        "answers.npy": _npy(answers),
        "network.onnx": onnx_bytes(bare, given),
    }
    weights: dict[str, Any] = {
        "onnx": {
            "source": "network.onnx",
            "opset_version": _opset(files["network.onnx"]),
            "sha256": _sha256(files["network.onnx"]),
        }
    }
    made = _architecture(network, model, files) if described else None
    if made is not None:
        content = BytesIO()
        torch.save(bare.state_dict(), content)
        files["weights.pt"] = content.getvalue()
        weights["pytorch_state_dict"] = {
            "source": "weights.pt",
            "sha256": _sha256(files["weights.pt"]),
            "pytorch_version": torch.__version__.partition("+")[0],
            "architecture": made,
        }
        weights["onnx"]["parent"] = "pytorch_state_dict"
    files["README.md"] = _readme(network, cells).encode()
    description = {
        "format_version": _FORMAT,
        "type": "model",
        "name": "cell-image network of a cytolens study",
        "description": f"Cell crops to {network.outputs}: {', '.join(network.class_names)}"[:1000],
        "documentation": {"source": "README.md"},
        "authors": [{"name": "not given"}],
        "cite": [{"text": "Webb et al. 2018, arXiv:1811.06488", "url": _PAPER}],
        "tags": ["cells", "classification"],
        "inputs": [_input(INPUT, raw, cells, steps)],
        "outputs": [_output(network)],
        "weights": weights,
        "config": {
            "cytolens": {"outputs": network.outputs, "version": cytolens.__version__},
            "bioimageio": {"reproducibility_tolerance": [_tolerance(answers)]},
        },
    }
    text = yaml.safe_dump(description, sort_keys=False, allow_unicode=True)
    with replacing_folder(out, knows=("rdf.yaml",)) as partial:
        for name, content in files.items():
            write_bytes(partial / name, content)
        write_bytes(partial / "rdf.yaml", text.encode())


def _input(
    name: str, raw: NDArray[Any], cells: Cells, steps: list[dict[str, Any]]
) -> dict[str, Any]:
    height, width = cells.shape[1:]
    pixel = {} if cells.pixel_size is None else {"scale": cells.pixel_size, "unit": "micrometer"}
    return {
        "id": name,
        "axes": [
            {"type": "batch"},
            {"type": "channel", "channel_names": list(cells.channel_names)},
            {"type": "space", "id": "y", "size": height, **pixel},
            {"type": "space", "id": "x", "size": width, **pixel},
        ],
        "test_tensor": {"source": "crops.npy"},
        "data": {"type": str(raw.dtype)},
        "preprocessing": [{"id": "ensure_dtype", "kwargs": {"dtype": "float32"}}, *steps],
    }


def _output(network: "Classifier") -> dict[str, Any]:
    softmax = {"id": "softmax", "kwargs": {"axis": "channel"}}
    return {
        "id": "probabilities" if network.gives_classes else network.outputs,
        "axes": [
            {"type": "batch"},
            {"type": "channel", "channel_names": list(network.class_names)},
        ],
        "test_tensor": {"source": "answers.npy"},
        "data": {"type": "float32"},
        "postprocessing": [softmax] if network.gives_classes else [],
    }


# Preprocessing ---------------------------------------------------------------------------------


def _intensity_steps(cells: Cells) -> list[dict[str, Any]]:
    """How the study prepares intensities, as steps of the format."""
    how = cells.preparation
    if how.intensity == "none":
        return []
    if how.intensity == "image":
        options = {"axes": ["y", "x"], "min_percentile": 0.0, "max_percentile": 100.0}
        return [{"id": "scale_range", "kwargs": options}]
    return [_linear([high - low for low, high in zip(how.low, how.high)], list(how.low))]


def _linear(spread: list[float], start: list[float]) -> dict[str, Any]:
    """(x - start) / spread, by image channel."""
    gains = [1 / float(s) for s in spread]
    offsets = [-float(low) / float(s) for low, s in zip(start, spread)]
    if len(gains) == 1:
        return {"id": "scale_linear", "kwargs": {"gain": gains[0], "offset": offsets[0]}}
    options = {"axis": "channel", "gain": gains, "offset": offsets}
    return {"id": "scale_linear", "kwargs": options}


def _as_described(raw: NDArray[Any], steps: list[dict[str, Any]]) -> NDArray[np.float32]:
    """Crops (n, C, H, W) as the network is given them, by the steps that are written down."""
    crops = raw.astype(np.float32)
    for step in steps:
        options = step["kwargs"]
        if step["id"] == "scale_linear":
            gain, offset = (np.atleast_1d(options[name]) for name in ("gain", "offset"))
            crops = crops * gain[:, None, None] + offset[:, None, None]
        else:
            low, high = crops.min((2, 3), keepdims=True), crops.max((2, 3), keepdims=True)
            crops = (crops - low) / (high - low + 1e-6)
    return crops.astype(np.float32)


# Code ------------------------------------------------------------------------------------------


def _architecture(
    network: "Classifier", model: str | None, files: dict[str, bytes]
) -> dict[str, Any] | None:
    """How the network is made, with a copy of its file in ``files``; None: that is not known."""
    if model is None:
        if network.spec.get("kind") != "CellNet":
            return None
        made = {"callable": "build_network", "import_from": "cytolens.classifier.networks"}
        return {**made, "kwargs": dict(network.spec["network"])}
    card = card_of(model)
    package = of_package(card.model)
    if package is not None:
        if package[0] != "timm":  # its weights come with its name
            return None
        options = {"num_classes": len(network.class_names), "in_chans": network.input_shape[0]}
        if isinstance(card.normalisation, Normalisation):
            options["in_chans"] = len(card.normalisation.mean)
        made = {"callable": "create_model", "import_from": "timm.models"}
        return {**made, "kwargs": {"model_name": package[1], **options}}
    place, name = factory_parts(card.model)
    made = {"callable": name, "kwargs": dict(card.arguments or {})}
    if not place.endswith(".py"):
        return {**made, "import_from": place}
    files["network.py"] = Path(place).expanduser().read_bytes()
    return {**made, "source": "network.py", "sha256": _sha256(files["network.py"])}


def _tolerance(answers: NDArray[np.float32]) -> dict[str, float]:
    """How near another runtime should come; absolutely, at most a hundredth of the largest."""
    most = min(1e-3, max(float(answers.max()) / 200, 1e-9))
    return {"relative_tolerance": 1e-3, "absolute_tolerance": most}


def _readme(network: "Classifier", cells: Cells) -> str:
    how = cells.preparation
    lines = [
        "# A network of a cytolens study",
        f"From crops of {' × '.join(map(str, cells.shape[1:]))} px "
        f"({', '.join(cells.channel_names)}) to {network.outputs}: "
        f"{', '.join(network.class_names)}.",
        "Crops are padded or cut to their size, never rescaled; intensities are those of the "
        "files, and rdf.yaml says how they are prepared.",
    ]
    if how.intensity == "image":
        lines.append(
            "The study scales each crop to its measured pixels, the network here to all of them: "
            "where a crop is padded the two differ."
        )
    lines += [
        "network.onnx is the whole network. weights.pt, where it is there, are the weights of the "
        "code that rdf.yaml names; what that code imports from other files of its author is not "
        "here. To study it: `cytolens run CELLS --model rdf.yaml --trust-model --out STUDY`.",
        "Who made it, and under which licence, is for you to add to rdf.yaml.",
    ]
    return "\n\n".join(lines) + "\n"


def _opset(onnx: bytes) -> int:
    found = import_module("onnx").load_model_from_string(onnx).opset_import
    return next(int(entry.version) for entry in found if entry.domain in ("", "ai.onnx"))


def _npy(values: NDArray[Any]) -> bytes:
    content = BytesIO()
    np.save(content, values, allow_pickle=False)
    return content.getvalue()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _yaml() -> Any:
    try:
        return import_module("yaml")
    except ImportError:
        raise MissingExtra("the format of bioimage.io", "bioimageio") from None
