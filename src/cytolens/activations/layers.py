"""The layers of any network, named, in depth order, with their receptive fields.

One layer stands for each depth (``trunk``): a block of the user's code, as a residual block, an
Inception block or a transformer's, by what it gives; elsewhere a linear operation with the norm and
the non-linearity that follow it. What follows what is read off one traced forward pass (``trace``),
not off module names, so in-place and reused non-linearities, ``F.relu`` and residual sums come out
right. Everything else that a module gives can be named.

Three names are the same for every network: ``input``, ``pre_softmax`` (what the last dense layer
is fed with) and ``logits`` (what it gives, before any softmax).
"""

import re
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from cytolens.activations.capture import Model, Place, network_and_shape
from cytolens.activations.groups import (
    KINDS,
    Group,
    Namer,
    groups_of,
    place_of,
    places_of,
    reads_first_token,
)
from cytolens.activations.shown_as import Shown, Viewer
from cytolens.activations.trace import Node, Trace, trace
from cytolens.activations.trunk import Graph
from cytolens.activations.views import parts_of, with_views
from cytolens.errors import ModelError, choose
from cytolens.records.layers import Layer

INPUT, PRE_SOFTMAX, LOGITS = "input", "pre_softmax", "logits"
CLASS_TOKEN = "class_token"
_NOWHERE = "the code works with its values between two modules, and none takes or gives them"

Placed = tuple[Layer, int]  # with its position in the forward pass


def find_layers(
    model: Model,
    input_shape: tuple[int, int, int] | None = None,
    *,
    names: Sequence[str] | None = None,
) -> tuple[Layer, ...]:
    """One layer per depth, from the input (depth 0) to the logits, in forward order.

    ``input_shape`` is (C, H, W) of one crop; a `Classifier` knows it. A layer is named by the
    shortest module name whose parts all belong to it ("conv3", "features.0"); a module that is
    called again carries the call ("conv[1]"). A block, which joins several paths, is of kind
    "block" and named by its module; a sum that is made outside of one is named by what is added
    last ("mlp.sum"). Where the values of the last hidden layer feed the last dense layer directly,
    that layer is called "pre_softmax"; where something stands between (pooling, flattening),
    "pre_softmax" is a layer of its own.

    Of tokens (N, T, D) the channels are the embedding dimensions, and the maps lie on the token
    grid: the shape is (D, h, w). The class token is a layer of its own ("blocks.3.class_token"),
    found by that name; it stands for the last block where the network reads nothing else of it.

    ``names`` picks layers, or takes anything within blocks, class tokens, and any other module
    that gives a tensor; ``depth`` is the rank among all layers found and those named.

    The receptive field, in pixels, is that of the convolutions and poolings, at most the image;
    what normalisation over positions (instance, group, layer norm) adds is not counted. It is
    None behind operations that are not understood, e.g. attention.

    Raises ModelError for a network that does not accept the shape or has no layers, or a layer
    that cannot be looked at (see `unseen_layers`), SettingError for an unknown name.

    >>> module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    >>> [(layer.name, layer.shape) for layer in find_layers(module, (1, 4, 4))]
    [('input', (1, 4, 4)), ('0', (4, 2, 2)), ('pre_softmax', (16,)), ('logits', (2,))]
    """
    finder = _Finder(*network_and_shape(model, input_shape))
    if len(finder.shown) == 1:
        raise ModelError(
            "no convolution or dense layer was found in the network; its modules must be nn.Module"
            " children that are called in forward()"
        )
    if names is None:
        return _ranked(finder.shown)
    placed = list(finder.shown)
    chosen: list[Layer] = []
    for name in names:
        layer, position = finder.named(name)
        if all(layer.name != other.name for other, _ in placed):
            placed.append((layer, position))
        chosen.append(layer)
    ranks = {layer.name: layer.depth for layer in _ranked(placed)}
    unique = {layer.name: replace(layer, depth=ranks[layer.name]) for layer in chosen}
    return tuple(sorted(unique.values(), key=lambda layer: layer.depth))


def unseen_layers(model: Model, input_shape: tuple[int, int, int] | None = None) -> dict[str, str]:
    """The parts of a network that cannot be looked at, with the reason for each.

    Parts of a part that is listed are not listed again. Raises ModelError as `find_layers`.

    >>> class Odd(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.main, self.extra = nn.Linear(16, 2), nn.Linear(16, 3)
    ...     def forward(self, x):
    ...         return self.main(x.flatten(1))
    >>> unseen_layers(Odd(), (1, 4, 4))
    {'extra': 'it is not called in evaluation mode'}
    """
    return _Finder(*network_and_shape(model, input_shape)).unseen()


def resolve_layer(model: Model, input_shape: tuple[int, int, int], layer: Layer | str) -> Layer:
    """The layer of that name; a Layer is given back as it is."""
    if isinstance(layer, Layer):
        return layer
    return find_layers(model, input_shape, names=[layer])[0]


def _ranked(placed: list[Placed]) -> tuple[Layer, ...]:
    in_order = sorted(placed, key=lambda entry: entry[1])
    return tuple(replace(layer, depth=depth) for depth, (layer, _) in enumerate(in_order))


class _Finder:
    """The layers of one network: those shown, those within blocks, and any other by name."""

    def __init__(self, network: nn.Module, shape: tuple[int, int, int]) -> None:
        self.network = network
        self.traced = traced = trace(network, shape)
        self.view = Viewer(network, traced)
        self.hidden: dict[str, str] = {}  # layers that cannot be looked at -> why
        image, root = traced.nodes[0], ("", 0, "input")
        layer = _layer(traced, INPUT, "input", image, Shown(image.shape, ()), root, root)
        self.shown: list[Placed] = [(layer, -1)]
        self.within: list[Placed] = []
        graph = Graph.of(network, traced)
        if graph is None:
            return
        namer, opened = Namer(network, graph), graph.opened()
        source = traced.nodes[graph.last.inputs[0]] if graph.ends else None
        for group in groups_of(graph):
            depth = group.anchor.index in graph.trunk or group.anchor.index in opened
            shown = depth and (group.block is not None or graph.block_of(group.anchor) is None)
            self._add(group, namer, source, self.shown if shown else self.within)
            if shown and reads_first_token(graph, group.after):
                self._show_class_token()
        self._add_ends(graph, source)
        self.shown.sort(key=lambda entry: entry[1])

    @property
    def names(self) -> list[str]:
        """Of the layers shown, in order."""
        return [layer.name for layer, _ in self.shown]

    def named(self, name: str) -> Placed:
        """The layer that ``name`` stands for: one found, a class token, or any module."""
        known = {layer.name: (layer, at) for layer, at in (*self.within, *self.shown)}
        if name in known:
            return known[name]
        modules = dict(self.network.named_modules())
        match = re.fullmatch(r"(.*?)(?:\[(\d+)\])?", name)
        module, call = (match[1], int(match[2] or 0)) if match else (name, 0)
        front, _, end = name.rpartition(".")
        if end == CLASS_TOKEN and front and module not in modules:
            return self._class_token(name, self.named(front))
        if module not in modules or not module:
            return known[choose("layer", name, self.names)]
        made = self.traced.given.get((module, call))
        shown = "" if made is None else self.view(self.traced.nodes[made])
        if made is None or isinstance(shown, str):
            why = f" that can be looked at: {shown}" if shown else " in the forward pass"
            raise ModelError(
                f"module '{name}' gives no tensor{why}; choose one of: {', '.join(self.names)}"
            )
        node = self.traced.nodes[made]
        same = [_viewed(place, shown.views) for place in self.traced.places[node.index]]
        for layer, position in (*self.shown, *self.within):  # another name of a layer found
            if layer.activation in same and layer.name != INPUT:
                return replace(layer, name=name), position
        place = (module, call, "output")
        block = any(True for _ in modules[module].children())
        kind = "block" if block else KINDS.get(node.op, "module")
        return _layer(self.traced, name, kind, node, shown, place, place), node.index

    def unseen(self) -> dict[str, str]:
        """Modules with weights, and layers, that cannot be looked at, with the reason."""
        named = [(name, module) for name, module in self.network.named_modules() if name]
        weighted = [
            name
            for name, module in named
            if any(True for _ in module.parameters(recurse=False))
            and ".parametrizations" not in name
        ]
        reasons = {name: reason for name in weighted if (reason := self._reason(name)) is not None}
        found: dict[str, str] = {}
        for name, _ in named:
            own = [part for part in weighted if part == name or part.startswith(f"{name}.")]
            alike = {reasons.get(part) for part in own}
            listed = any(name.startswith(f"{other}.") for other in found)
            if not listed and len(alike) == 1 and (reason := alike.pop()) is not None:
                found[name] = reason
        return {**self.hidden, **found}

    def _reason(self, name: str) -> str | None:
        """Why a module with weights cannot be looked at; None where it can."""
        calls = range(self.traced.called.get(name, 0))
        if not calls:
            parents = [name.rsplit(".", n)[0] for n in range(1, name.count(".") + 1)]
            around = next((p for p in parents if self.traced.called.get(p)), None)
            if around is None:
                return "it is not called in evaluation mode"
            parent = self.network.get_submodule(around)
            if isinstance(parent, nn.MultiheadAttention):  # its output is what the parent gives
                return None
            if isinstance(parent, torch.jit.ScriptModule):
                return f"'{around}' is TorchScript, which shows nothing of what is in it"
            return f"'{around}' does not call it in evaluation mode, or uses its weights directly"
        given = [self.traced.given[name, i] for i in calls if (name, i) in self.traced.given]
        if not given:
            return "what it gives is no tensor that is made from the image"
        shown = self.view(self.traced.nodes[given[0]])
        return shown if isinstance(shown, str) else None

    def _class_token(self, name: str, of: Placed) -> Placed:
        """The class token beside the grid of a layer of tokens."""
        layer, position = of
        side, function, views = parts_of(layer.activation[2])
        first = re.match(r"tokens\((\d+),", views[-1]) if views else None
        if first is None or first[1] == "0":
            raise ModelError(f"layer '{layer.name}' has no class token before its tokens")
        side = f"{side}.{function}" if function else side
        place = (*layer.activation[:2], with_views(side, (*views[:-1], "token(0)")))
        made = replace(layer, name=name, kind="token", shape=layer.shape[:1], receptive_field=None)
        return replace(made, pre_activation=place, activation=place), position

    def _show_class_token(self) -> None:
        """The class token in the place of the last layer, whose other tokens decide nothing."""
        layer, position = self.shown[-1]
        if "tokens(1," in layer.activation[2]:
            self.within.append(self.shown.pop())
            self.shown.append(self._class_token(f"{layer.name}.{CLASS_TOKEN}", (layer, position)))

    def _add(self, group: Group, namer: Namer, source: Node | None, into: list[Placed]) -> None:
        """Add the layer of a group where it can be looked at; else why not."""
        taken = [layer.name for layer, _ in (*self.shown, *self.within)]
        name = _unique(namer.name(group), taken)
        places = places_of(self.traced, group)
        direct = places is not None and places[1] in self.traced.places.get(group.after.index, ())
        seen = group.after if direct else group.before
        shown = self.view(seen)
        if isinstance(shown, str) or places is None:
            if into is self.shown:
                self.hidden[name] = shown if isinstance(shown, str) else _NOWHERE
            return
        if source is not None and group.after.index == source.index and direct:
            name = PRE_SOFTMAX
        kind = "block" if group.joins else KINDS.get(group.anchor.op, "module")
        layer = _layer(self.traced, name, kind, seen, shown, *places)
        into.append((layer, group.after.index))

    def _add_ends(self, graph: Graph, source: Node | None) -> None:
        """The logits, and the pre-softmax layer unless a layer with its values has that name."""
        last, traced = graph.last, self.traced
        if source is not None and PRE_SOFTMAX not in self.names:
            feed, shown = place_of(traced, source, module=last.module), self.view(source)
            if feed is not None and not isinstance(shown, str):
                kind = KINDS.get(_maker(traced, source).op, "block")
                kind = "input" if source.index == 0 else kind
                layer = _layer(traced, PRE_SOFTMAX, kind, source, shown, feed, feed)
                self.shown.append((layer, source.index))
        output: Place | None = ("", 0, "output")
        if graph.ends and last.op == "linear" and len(last.shape) == 1:
            output = place_of(traced, last)
        else:  # a fully convolutional classifier: its logits are the pooled maps
            last = graph.sink
        shown = self.view(last)
        if output is not None and not isinstance(shown, str):
            kind = KINDS.get(last.op, "block")
            layer = _layer(traced, LOGITS, kind, last, shown, output, output)
            self.shown.append((layer, last.index))


def _maker(traced: Trace, node: Node) -> Node:
    """The node, or the one whose numbers it holds where it only drops axes of length one."""
    while KINDS.get(node.op) == "flatten" and traced.nodes[node.inputs[0]].shape[:1] == node.shape:
        node = traced.nodes[node.inputs[0]]
    return node


def _layer(
    traced: Trace, name: str, kind: str, node: Node, shown: Shown, before: Place, after: Place
) -> Layer:
    return Layer(
        name, kind, 0, shown.shape, traced.receptive_field(node),
        pre_activation=_viewed(before, shown.views), activation=_viewed(after, shown.views),
    )  # fmt: skip


def _viewed(place: Place, views: tuple[str, ...]) -> Place:
    return (place[0], place[1], with_views(place[2], views))


def _unique(name: str, taken: list[str]) -> str:
    """``name``, or with a number where it is taken, as by a module that is called twice."""
    reserved = {*taken, INPUT, PRE_SOFTMAX, LOGITS}
    if name not in reserved:
        return name
    number = 1
    while f"{name}[{number}]" in reserved:
        number += 1
    return f"{name}[{number}]"
