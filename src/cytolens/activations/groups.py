"""Operations that make one layer together, what the layer is called, and where it can be had."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from cytolens.activations.capture import NON_LINEARITIES, Place
from cytolens.activations.trace import LINEAR, NON_LINEAR, NORM, WEIGHTED, Node, Trace
from cytolens.activations.trunk import Call, Graph

KINDS = {
    **dict.fromkeys(NORM, "norm"),
    **dict.fromkeys(NON_LINEAR, "non-linearity"),
    **dict.fromkeys(LINEAR, "conv"),
    "linear": "linear",
    "multi_head_attention_forward": "attention",
    **dict.fromkeys(("flatten", "view", "reshape"), "flatten"),
    **dict.fromkeys(("max_pool2d", "avg_pool2d", "mean", "amax"), "pool"),
    **dict.fromkeys(("adaptive_avg_pool2d", "adaptive_max_pool2d"), "pool"),
}
"""What a layer is called by its operation; else "block" or "module"."""

_JOINS = {"add": "sum", "cat": "concat", "concat": "concat", "mul": "product"}
_NEUTRAL = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)


@dataclass(frozen=True)
class Group:
    """Operations that make one layer together."""

    anchor: Node  # the linear operation, or where paths are joined
    before: Node  # the value before the non-linearity
    after: Node  # the value behind it; the same where there is none
    commuted: bool  # a max pooling stands between the two
    members: tuple[Node, ...]
    joins: bool = False  # several paths
    block: Call | None = None  # that gives it


def groups_of(graph: Graph) -> Iterator[Group]:
    """All layers on the way to the output but the last dense one, in the order of their anchors."""
    blocks = {node.index: call for call, node in graph.blocks.items()}
    for node in graph.traced.nodes:
        if node.index not in graph.alive or (graph.ends and node.index == graph.last.index):
            continue
        if node.index in blocks:
            yield _block(graph, node, blocks[node.index])
        elif node.op in WEIGHTED or node.index in graph.joins:
            off = node.index not in graph.trunk
            on_tokens = node.op in WEIGHTED - {"conv2d"} and len(node.shape) > 1
            joins = node.index in graph.joins
            if off and (on_tokens or (joins and graph.block_of(node) is not None)):
                continue
            yield _group(graph, node, joins=joins)


def _block(graph: Graph, node: Node, call: Call) -> Group:
    rectifies = node.op in NON_LINEAR and len(node.inputs) == 1
    before = graph.traced.nodes[node.inputs[0]] if rectifies else node
    return Group(node, before, node, commuted=False, members=(node,), joins=True, block=call)


def _group(graph: Graph, anchor: Node, *, joins: bool) -> Group:
    def follows(node: Node, ops: set[str]) -> Node | None:
        user = graph.sole_user(node)
        if user is None and not joins:  # read elsewhere too: what the same code does with it next
            here = [u for u in graph.users(node) if graph.home(u) == graph.home(node)]
            user = next((u for u in here if u.op in ops), None)
        return user if user is not None and user.op in ops else None

    norm = None if joins else follows(anchor, NORM)
    before = norm or anchor
    after, pool = follows(before, NON_LINEAR), None
    if after is None:
        # relu(max_pool(conv(x))) is max_pool(relu(conv(x))): non-linearities rise monotonically.
        pool = follows(before, {"max_pool2d"})
        after = None if pool is None else follows(pool, NON_LINEAR)
    members = tuple(node for node in (anchor, norm, after) if node is not None)
    commuted = after is not None and pool is not None
    return Group(anchor, before, after or before, commuted, members, joins=joins)


def places_of(traced: Trace, group: Group) -> tuple[Place, Place] | None:
    """Where the values before and after the non-linearity can be had; None where nowhere."""
    if group.block is not None:
        output = (*group.block, "output")
        before = None if group.before is group.after else place_of(traced, group.before)
        return (before or output, output)
    before = place_of(traced, group.before)
    after = None if group.commuted else place_of(traced, group.after)
    if before is not None and after is None:
        if group.after.default and group.after.op in NON_LINEARITIES and before[2] == "output":
            after = (before[0], before[1], f"output.{group.after.op}")
        else:
            after = before
    if after is None:
        return None
    return (before or after, after)


def place_of(traced: Trace, node: Node, module: Call | None = None) -> Place | None:
    """A place that hands the value over: the given module's input, an output, any input."""
    places = traced.places.get(node.index, [])
    if module is not None and (*module, "input") in places:
        return (*module, "input")
    outputs = [place for place in places if place[2] == "output"]
    return next(iter(outputs or places), None)


def reads_first_token(graph: Graph, node: Node) -> bool:
    """Whether the network goes on with a single token of the tokens (T, D) of ``node``."""
    if len(node.shape) != 2:
        return False
    following = graph.sole_user(node)
    while following is not None and following.op in NORM:
        node, following = following, graph.sole_user(following)
    return (
        following is not None
        and following.op in ("getitem", "select")
        and following.batch * len(following.shape) == 2
    )


class Namer:
    """Gives layers the names of the user's code."""

    def __init__(self, network: nn.Module, graph: Graph) -> None:
        self._graph = graph
        ends = [
            name
            for name, module in network.named_modules()
            if not any(True for _ in module.children()) and not isinstance(module, _NEUTRAL)
        ]
        self._parts = {  # for every module, the innermost ones within it that do something
            name: {end for end in ends if end == name or end.startswith(f"{name}.")}
            for name, _ in network.named_modules()
            if name
        }

    def name(self, group: Group) -> str:
        """The shortest module name that stands for the group alone."""
        if group.block is not None:
            return _called(*group.block)
        if group.joins:
            return self._of_join(group.anchor)
        module, call = group.anchor.module
        own = {node.module[0] for node in group.members}
        steps = module.split(".")
        for length in range(1, len(steps) + 1):
            name = ".".join(steps[:length])
            if name in self._parts and self._parts[name] <= own:
                return _called(name, call)
        return _called(module or group.anchor.op, call)

    def _of_join(self, node: Node) -> str:
        """By the module that gives what is added last."""
        last = self._graph.joins[node.index].weighted[-1]
        branch = next((call for call in last.stack if call not in node.stack), node.module)
        kind = _JOINS.get(node.op, "join")
        return f"{_called(*branch)}.{kind}" if branch[0] else kind


def _called(name: str, call: int) -> str:
    return f"{name}[{call}]" if call else name
