"""Weights from files: safetensors or PyTorch, as people save them, put into a module by name.

A training script saves more than weights, and nests them: ``{"model": {"module.conv1.weight": …},
"optimizer": …, "epoch": 12}``. What fits the module is found; nothing is unpickled without a word.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from cytolens.errors import ModelError

SAFE = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".tar")
PROGRAMS = (".pt2", ".ts", ".torchscript", ".onnx", ".jit")
_DEPTH = 3  # of mappings within mappings
_COUNTER = "num_batches_tracked"  # of batch norms; has no part in what a network answers


def read_weights(path: Path, *, allow_pickle: bool = False) -> Mapping[str, Any]:
    """What a weights file holds, by name: tensors, or mappings with tensors in them.

    Read without running code. Raises ModelError for a file that is none, is damaged, or holds more
    than plain values, which is only read with ``allow_pickle``.
    """
    if not path.is_file():
        raise ModelError(f"the weights file '{path}' does not exist")
    if path.suffix.lower() in PROGRAMS:
        raise ModelError(
            f"'{path.name}' is an exported program, which is code and hides its layers; give the "
            "code that makes the network (--model file.py:function) and its state dict as "
            ".safetensors or .pt (--weights)"
        )
    if path.suffix not in SAFE:
        raise ModelError(f"weights '{path.name}' are of no known kind; give {', '.join(SAFE)}")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise ModelError(f"'{path}' is no readable safetensors file: {error}") from error
    try:
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        if not allow_pickle:
            raise ModelError(
                f"'{path.name}' is more than plain weights, or damaged; reading it could run code "
                "hidden in it. Save the state_dict as .safetensors or, if you trust its source, "
                "say --allow-pickle (allow_pickle=True)"
            ) from error
        loaded = _unpickle(path)
    if isinstance(loaded, nn.Module):
        loaded = loaded.state_dict()
    if not isinstance(loaded, Mapping):
        raise ModelError(
            f"'{path.name}' holds a {type(loaded).__name__}, not a state dict (parameter names "
            "and tensors)"
        )
    return cast("Mapping[str, Any]", loaded)


def load_weights(module: nn.Module, state: Mapping[str, Any], *, source: str) -> None:
    """Put weights in by name, wherever in ``state`` and under whichever prefix they are.

    Those that fit are taken: the mapping itself, or one within it ("model", "state_dict", "ema" …,
    the first that fits), its names as they are or without a prefix that they share ("module.",
    "model.", "net." …; what has another prefix belongs to something else). Raises ModelError where
    none fits, which says what was found.
    """
    own = module.state_dict()
    tried: list[tuple[int, str, list[str]]] = []  # misfits, what was tried, the problems
    for place, weights in _mappings(state, ""):
        for prefix in _prefixes(weights):
            named = {n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)}
            misfits, problems = _misfits(own, named)
            if not problems:
                kept = {name: named.get(name, own[name]) for name in own}
                module.load_state_dict(kept)
                return
            what = f"{place or 'the file'}{f' without {prefix!r}' if prefix else ''}"
            tried.append((misfits, what, problems))
    if not tried:
        raise ModelError(
            f"{source} holds no state dict (parameter names and tensors); it holds {_held(state)}"
        )
    _, what, problems = min(tried, key=lambda entry: entry[0])
    nested = "" if all(isinstance(w, Tensor) for w in state.values()) else f" ({_held(state)})"
    where = "" if what == "the file" else f", {what}"
    raise ModelError(
        f"the weights of {source}{nested} do not fit the module{where}: {'; '.join(problems)}"
    )


def tensors_in(state: Mapping[str, Any]) -> Mapping[str, Tensor]:
    """The first mapping of names to tensors alone that is held; empty where there is none."""
    return next((weights for _, weights in _mappings(state, "")), {})


def _mappings(state: Mapping[str, Any], place: str) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
    """Every mapping of names to tensors alone, with where it is; the outer ones first."""
    if all(isinstance(value, Tensor) for value in state.values()) and (state or not place):
        yield place, state
        return
    if place.count(".") < _DEPTH:
        for name, value in state.items():
            if isinstance(value, Mapping):
                yield from _mappings(value, f"{place}.{name}" if place else str(name))


def _prefixes(weights: Mapping[str, Tensor]) -> list[str]:
    """Beginnings that names may share, up to a dot, the shortest first; none among them."""
    found = {""}
    for name in weights:
        steps = name.split(".")[:-1]
        found |= {".".join(steps[:n]) + "." for n in range(1, min(len(steps), _DEPTH) + 1)}
    return sorted(found, key=len)


def _misfits(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> tuple[int, list[str]]:
    """How many weights do not fit, and which."""
    missing = sorted(n for n in set(own) - set(given) if not n.endswith(_COUNTER))
    surplus = sorted(set(given) - set(own))
    shapes = [
        f"{n} {_size(given[n])} for {_size(own[n])}"
        for n in own
        if n in given and own[n].shape != given[n].shape
    ]
    problems = {"missing": missing, "not in the module": surplus, "of another shape": shapes}
    found = [f"{_few(entries)} {what}" for what, entries in problems.items() if entries]
    return len(missing) + len(surplus) + len(shapes), found


def _held(state: Mapping[str, Any]) -> str:
    """The names at the top, with how many weights are in each."""
    parts: list[str] = []
    for name, value in list(state.items())[:8]:
        inside = sum(len(weights) for _, weights in _mappings(value, "")) if _nested(value) else 0
        parts.append(f"{name}: {inside} weights" if inside else str(name))
    return f"keys {', '.join(parts)}{' …' if len(state) > 8 else ''}" if parts else "nothing"


def _nested(value: Any) -> bool:
    return isinstance(value, Mapping)


def _size(weight: Tensor) -> str:
    return "×".join(map(str, weight.shape)) or "one number"


def _unpickle(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:
        raise ModelError(f"'{path.name}' cannot be read: {error}") from error


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
