"""The layers of any network, named, in depth order, with their receptive fields.

A linear operation with the norm and the non-linearity that follow it is one layer. What follows
what is read off one traced forward pass (``trace``), not off module names, so in-place and reused
non-linearities, ``F.relu`` and residual sums come out right.

Three names are the same for every network: ``input``, ``pre_softmax`` (what the last dense layer
is fed with) and ``logits`` (what it gives, before any softmax).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import nn

from cytolens.activations.capture import NON_LINEARITIES, Model, Place, network_and_shape
from cytolens.activations.trace import LINEAR, NON_LINEAR, NORM, Node, Trace, trace
from cytolens.errors import ModelError, choose
from cytolens.records.layers import Layer

INPUT, PRE_SOFTMAX, LOGITS = "input", "pre_softmax", "logits"
_JOINS = {"add", "cat", "concat", "concatenate"}
_KINDS = {
    **dict.fromkeys(NORM, "norm"),
    **dict.fromkeys(NON_LINEAR, "non-linearity"),
    **dict.fromkeys(LINEAR, "conv"),
    "linear": "linear",
    **dict.fromkeys(("flatten", "view", "reshape"), "flatten"),
    **dict.fromkeys(("max_pool2d", "avg_pool2d", "mean", "amax"), "pool"),
    **dict.fromkeys(("adaptive_avg_pool2d", "adaptive_max_pool2d"), "pool"),
}
_NEUTRAL = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)


@dataclass(frozen=True)
class _Group:
    """One layer in the making."""

    anchor: Node  # the linear operation, or the sum of a residual block
    before: Node  # the value before the non-linearity
    after: Node  # the value behind it; the same where there is none
    commuted: bool  # a max pooling stands between the two
    members: tuple[Node, ...]


def find_layers(
    model: Model,
    input_shape: tuple[int, int, int] | None = None,
    *,
    names: Sequence[str] | None = None,
) -> tuple[Layer, ...]:
    """Every layer from the input (depth 0) to the logits, in forward order.

    ``input_shape`` is (C, H, W) of one crop; a `Classifier` knows it. A layer is named by the
    shortest module name whose parts all belong to it ("conv3", "features.0"); a module that is
    called again carries the call ("conv[1]"). A residual sum with its non-linearity is a layer of
    kind "block", named by its block. Where the values of the last hidden layer feed the last dense
    layer directly, that layer is called "pre_softmax"; where something stands between (pooling,
    flattening), "pre_softmax" is a layer of its own. Dense operations on (N, tokens, F) are left
    out.

    ``names`` picks layers, or takes any other module that gives a tensor; ``depth`` is the rank
    among all layers found and those named.

    The receptive field, in pixels, is that of the convolutions and poolings, at most the image;
    what normalisation over positions (instance, group, layer norm) adds is not counted. It is
    None behind operations that are not understood, e.g. attention.

    Raises ModelError for a network that does not accept the shape or has no layers, SettingError
    for an unknown name.

    >>> module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    >>> [(layer.name, layer.shape) for layer in find_layers(module, (1, 4, 4))]
    [('input', (1, 4, 4)), ('0', (4, 2, 2)), ('pre_softmax', (16,)), ('logits', (2,))]
    """
    network, shape = network_and_shape(model, input_shape)
    traced = trace(network, shape)
    placed = _all_layers(network, traced)
    if len(placed) == 1:
        raise ModelError(
            "no convolution or dense layer was found in the network; its modules must be nn.Module"
            " children that are called in forward()"
        )
    if names is None:
        return _ranked(placed)
    chosen: list[Layer] = []
    for name in names:
        layer, position = _named(network, traced, placed, name)
        if all(layer.name != other.name for other, _ in placed):
            placed.append((layer, position))
        chosen.append(layer)
    ranks = {layer.name: layer.depth for layer in _ranked(placed)}
    unique = {layer.name: replace(layer, depth=ranks[layer.name]) for layer in chosen}
    return tuple(sorted(unique.values(), key=lambda layer: layer.depth))


def resolve_layer(model: Model, input_shape: tuple[int, int, int], layer: Layer | str) -> Layer:
    """The layer of that name; a Layer is given back as it is."""
    if isinstance(layer, Layer):
        return layer
    return find_layers(model, input_shape, names=[layer])[0]


def _ranked(placed: list[tuple[Layer, int]]) -> tuple[Layer, ...]:
    in_order = sorted(placed, key=lambda entry: entry[1])
    return tuple(replace(layer, depth=depth) for depth, (layer, _) in enumerate(in_order))


def _all_layers(model: nn.Module, traced: Trace) -> list[tuple[Layer, int]]:
    """Layers with their position in the forward pass."""
    image = traced.nodes[0]
    root: Place = ("", 0, "input")
    placed = [(_layer(traced, INPUT, "input", image, root, root), -1)]
    groups = [group for node in traced.nodes if (group := _group(traced, node)) is not None]
    last = max((g.anchor.index for g in groups if g.anchor.op in LINEAR), default=-1)
    source = traced.nodes[last].inputs[0] if last >= 0 else -1
    parts = _parts(model)
    for group in groups:
        if group.anchor.index == last:
            placed += _last_layers(traced, group.anchor, [layer.name for layer, _ in placed])
            continue
        places = _group_places(traced, group)
        if places is None:
            continue
        before, after = places
        direct = after in traced.places.get(group.after.index, ())
        if group.after.index == source and direct:
            name = PRE_SOFTMAX
        else:
            name = _unique(_name(traced, group, parts), [layer.name for layer, _ in placed])
        kind = _KINDS.get(group.anchor.op, "block")
        shown = group.after if direct else group.before
        layer = _layer(traced, name, kind, shown, before, after)
        placed.append((layer, group.after.index))
    return placed


def _last_layers(traced: Trace, last: Node, taken: list[str]) -> list[tuple[Layer, int]]:
    """The logits, and the pre-softmax layer unless a layer with its values has that name."""
    given = traced.nodes[last.inputs[0]]
    found: list[tuple[Layer, int]] = []
    feed = _place(traced, given, module=last.module)
    if PRE_SOFTMAX not in taken and feed is not None:
        kind = "input" if given.index == 0 else _KINDS.get(_maker(traced, given).op, "block")
        found.append((_layer(traced, PRE_SOFTMAX, kind, given, feed, feed), given.index))
    output = _place(traced, last)
    if last.op != "linear":  # a fully convolutional classifier: its logits are the pooled maps
        output = ("", 0, "output")
        last = traced.nodes[(traced.outputs.get("") or [last.index])[-1]]
    if output is not None:
        kind = _KINDS.get(last.op, "block")
        found.append((_layer(traced, LOGITS, kind, last, output, output), last.index))
    return found


def _maker(traced: Trace, node: Node) -> Node:
    """The node, or the one whose numbers it holds where it only drops axes of length one."""
    while _KINDS.get(node.op) == "flatten" and traced.nodes[node.inputs[0]].shape[:1] == node.shape:
        node = traced.nodes[node.inputs[0]]
    return node


def _layer(traced: Trace, name: str, kind: str, node: Node, before: Place, after: Place) -> Layer:
    seen = traced.receptive_field(node)
    return Layer(name, kind, 0, node.shape, seen, pre_activation=before, activation=after)


def _group(traced: Trace, anchor: Node) -> _Group | None:
    """The layer that starts at ``anchor``; None where none does."""
    joins = anchor.op in _JOINS and len(anchor.inputs) > 1
    on_tokens = anchor.op == "linear" and len(anchor.shape) > 1
    if (anchor.op not in LINEAR and not joins) or on_tokens:
        return None
    norm = _user(traced, anchor, NORM)
    before = norm or anchor
    after, pool = _user(traced, before, NON_LINEAR), None
    if after is None:
        # relu(max_pool(conv(x))) is max_pool(relu(conv(x))): non-linearities rise monotonically.
        pool = _user(traced, before, {"max_pool2d"})
        after = None if pool is None else _user(traced, pool, NON_LINEAR)
    if joins and (after is None or pool is not None):
        return None
    members = tuple(node for node in (anchor, norm, after) if node is not None)
    return _Group(anchor, before, after or before, after is not None and pool is not None, members)


def _user(traced: Trace, node: Node, ops: set[str]) -> Node | None:
    return next((user for user in traced.users(node) if user.op in ops), None)


def _group_places(traced: Trace, group: _Group) -> tuple[Place, Place] | None:
    """Where the values before and after the non-linearity can be had; None where nowhere."""
    before = _place(traced, group.before)
    after = None if group.commuted else _place(traced, group.after)
    if before is not None and after is None:
        if group.after.default and group.after.op in NON_LINEARITIES and before[2] == "output":
            after = (before[0], before[1], f"output.{group.after.op}")
        else:
            after = before
    if after is None:
        return None
    return (before or after, after)


def _place(traced: Trace, node: Node, module: tuple[str, int] | None = None) -> Place | None:
    """A place that hands the value over: the given module's input, an output, any input."""
    places = traced.places.get(node.index, [])
    if module is not None and (*module, "input") in places:
        return (*module, "input")
    outputs = [place for place in places if place[2] == "output"]
    return next(iter(outputs or places), None)


def _parts(model: nn.Module) -> dict[str, set[str]]:
    """For every module, the innermost modules within it, without those that do nothing."""
    ends = [
        name
        for name, module in model.named_modules()
        if not any(True for _ in module.children()) and not isinstance(module, _NEUTRAL)
    ]
    return {
        name: {end for end in ends if end == name or end.startswith(f"{name}.")}
        for name, _ in model.named_modules()
        if name
    }


def _name(traced: Trace, group: _Group, parts: dict[str, set[str]]) -> str:
    """The shortest module name that stands for the group alone."""
    module, call = group.anchor.module
    again = f"[{call}]" if call else ""
    if group.anchor.op not in LINEAR:
        blocks = [
            name
            for name, made in traced.outputs.items()
            if group.after.index in made and parts.get(name, {name}) != {name} and name
        ]
        return max(blocks, key=lambda name: name.count("."), default=f"{module or 'sum'}{again}")
    own = {node.module[0] for node in group.members}
    steps = module.split(".")
    for length in range(1, len(steps) + 1):
        name = ".".join(steps[:length])
        if name in parts and parts[name] <= own:
            return name + again
    return (module or group.anchor.op) + again


def _unique(name: str, taken: list[str]) -> str:
    """``name``, or with a number where it is taken, as by a module that is called twice."""
    reserved = {*taken, INPUT, PRE_SOFTMAX, LOGITS}
    if name not in reserved:
        return name
    number = 1
    while f"{name}[{number}]" in reserved:
        number += 1
    return f"{name}[{number}]"


def _named(
    model: nn.Module, traced: Trace, placed: list[tuple[Layer, int]], name: str
) -> tuple[Layer, int]:
    """The layer that ``name`` stands for: one found, any module, or an unambiguous part."""
    known = {layer.name: (layer, position) for layer, position in placed}
    if name in known:
        return known[name]
    match = re.fullmatch(r"(.*?)(?:\[(\d+)\])?", name)
    module, call = (match[1], int(match[2] or 0)) if match else (name, 0)
    if module not in dict(model.named_modules()) or not module:
        return known[choose("layer", name, list(known))]
    made = traced.outputs.get(module, [])
    if call >= len(made):
        raise ModelError(
            f"module '{name}' gives no tensor in the forward pass; choose one of: "
            + ", ".join(known)
        )
    node = traced.nodes[made[call]]
    for layer, position in placed:  # another name of a layer that was found
        if layer.activation in traced.places[node.index] and layer.name != INPUT:
            return replace(layer, name=name), position
    place = (module, call, "output")
    block = any(True for _ in model.get_submodule(module).children())
    kind = "block" if block else _KINDS.get(node.op, "module")
    return _layer(traced, name, kind, node, place, place), node.index
