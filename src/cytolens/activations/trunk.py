"""The trunk of a network: the values that all that reaches the output passes through.

A residual sum is on the trunk, the convolutions that its skip connection goes around are not. So
the trunk has one value per depth, whatever the architecture; where a module of the user's code
makes such a sum, or joins branches, it is a block, and its output stands for all that is in it.

The trunk are the dominators of the output in the graph of operations (Cooper, Harvey & Kennedy
2001). Skip connections that go around an up-sampling, as those of a U-Net, are left out of it:
they would leave nothing between the first layer and the last.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from cytolens.activations.trace import LINEAR, UPSAMPLING, WEIGHTED, Node, Trace

Call = tuple[str, int]  # a module, and which call of it
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_CUTS = {"getitem", "pad", "narrow", "slice"}
_MOST_JOINS = 3  # of a block: a transformer's decoder layer has three
_MOST_ANCHORS = 2  # linear operations of a block before and after its joins
OPENED = 4  # more linear operations than these between two values of the trunk are shown too


@dataclass(frozen=True)
class Join:
    """A value that several paths lead to, with linear operations on them."""

    node: Node
    weighted: tuple[Node, ...]  # the linear operations between here and where the paths part
    block: Call | None  # the innermost module around all of these; None for the network itself


class Graph:
    """The operations that lead to what the network gives, with their dominators and blocks.

    ``sink`` is what it gives, ``last`` the last linear operation before it, and ``ends`` whether
    all goes through that one, as it does where a dense layer gives the logits.
    """

    def __init__(self, network: nn.Module, traced: Trace, sink: Node) -> None:
        self.traced = traced
        self.sink = sink
        self._leaves = {
            n for n, m in network.named_modules() if n and not any(True for _ in m.children())
        }
        ancestors = _ancestors(traced, {})
        self.inputs = _kept_inputs(traced, ancestors)
        self.ancestors = _ancestors(traced, self.inputs)
        self.alive = {i for i in range(sink.index + 1) if self._leads_to(i, sink.index)}
        self.dominator = self._dominators()
        self.trunk = set(self._chain(sink.index))
        linear = [i for i in self.alive if traced.nodes[i].op in LINEAR]
        self.last = traced.nodes[max(linear, default=0)]
        self.ends = self.last.index in self.trunk and bool(linear)
        self.joins = {
            join.node.index: join for i in sorted(self.alive) if (join := self._join(i)) is not None
        }
        self.blocks = self._blocks(network)

    @classmethod
    def of(cls, network: nn.Module, traced: Trace) -> "Graph | None":
        """That of a traced network; None where nothing linear leads to what it gives."""
        linear = [node for node in traced.nodes if node.op in LINEAR]
        if not linear:
            return None
        given = traced.given.get(("", 0))
        graph = cls(network, traced, linear[-1] if given is None else traced.nodes[given])
        return graph if graph.last.op in LINEAR else None

    def block_of(self, node: Node) -> Call | None:
        """The outermost block that the operation belongs to."""
        return next((call for call in node.stack if call in self.blocks), None)

    def opened(self) -> set[int]:
        """Operations between values of the trunk that no block stands for, and that are many."""
        found: set[int] = set()
        for index in self.trunk & set(self.joins):
            join = self.joins[index]
            if self.block_of(join.node) is None and len(join.weighted) > OPENED:
                found |= self._between(index)
        return found

    def sole_user(self, node: Node) -> Node | None:
        """The only operation that takes the value; None where there are several."""
        users = self.users(node)
        return users[0] if len(users) == 1 else None

    def users(self, node: Node) -> list[Node]:
        """The operations on the way to the output that take the value, in order."""
        return [user for user in self.traced.users(node) if user.index in self.alive]

    def home(self, node: Node) -> tuple[Call, ...]:
        """The calls whose code the operation is a step of: without an innermost module's own."""
        name = node.stack[-1][0]
        return node.stack[:-1] if name in self._leaves else node.stack

    def _leads_to(self, index: int, target: int) -> bool:
        return index == target or bool(self.ancestors[target] >> index & 1)

    def _chain(self, index: int) -> Iterator[int]:
        """The value, and all that dominate it."""
        while index in self.dominator:
            yield index
            if index == 0:
                return
            index = self.dominator[index]

    def _dominators(self) -> dict[int, int]:
        found, depth = {0: 0}, {0: 0}
        for index in sorted(self.alive - {0}):
            parents = [i for i in self.inputs[index] if i in found]
            if not parents:
                continue
            common = parents[0]
            for other in parents[1:]:
                while common != other:
                    if depth[common] >= depth[other]:
                        common = found[common]
                    else:
                        other = found[other]
            found[index], depth[index] = common, depth[common] + 1
        return found

    def _between(self, index: int) -> set[int]:
        """All that lies between a value and where its paths part."""
        start = self.dominator.get(index, 0)
        bits = self.ancestors[index] & ~self.ancestors[start] & ~(1 << start)
        return {i for i in range(start + 1, index) if bits >> i & 1}

    def _join(self, index: int) -> Join | None:
        node = self.traced.nodes[index]
        if len(self.inputs[index]) < 2:
            return None
        inside = [self.traced.nodes[i] for i in sorted(self._between(index))]
        weighted = tuple(other for other in inside if other.op in WEIGHTED)
        if not weighted:
            return None
        around = [call for call in node.stack if call[0]]
        block = next((c for c in reversed(around) if all(c in w.stack for w in weighted)), None)
        return Join(node, weighted, block)

    def _blocks(self, network: nn.Module) -> dict[Call, Node]:
        """Module calls whose output stands for all within them, the outermost ones."""
        nodes = self.traced.nodes
        found: set[Call] = set()
        for call in dict.fromkeys(join.block for join in self.joins.values()):
            output = None if call is None else self.traced.given.get(call)
            if call is None or output is None or output not in self.alive:
                continue
            own = [i for i in self._chain(output) if call in nodes[i].stack]
            joins = [self.joins[i] for i in own if i in self.joins]
            anchors = [i for i in own if nodes[i].op in WEIGHTED and i not in self.joins]
            if not joins or any(join.block != call for join in joins):
                continue
            if len(joins) <= _MOST_JOINS and len(anchors) <= _MOST_ANCHORS:
                found.add(call)
        classes = {type(network.get_submodule(name)) for name, _ in found} - set(_CONTAINERS)
        for call, output in self.traced.given.items():
            if call[0] and type(network.get_submodule(call[0])) in classes:
                found |= {call} if output in self.alive else set()
        if self.ends:  # what holds the last layer is the network, not a block of it
            found -= set(self.last.stack)
        calls = {
            call: nodes[self.traced.given[call]]
            for call in found
            if not any(other in found for other in _around(self.traced, call))
        }
        return dict(sorted(calls.items(), key=lambda entry: entry[1].index))


def _around(traced: Trace, call: Call) -> tuple[Call, ...]:
    """The calls around a call, outermost first."""
    for node in traced.nodes:
        if call in node.stack:
            return node.stack[: node.stack.index(call)]
    return ()


def _kept_inputs(traced: Trace, ancestors: list[int]) -> dict[int, tuple[int, ...]]:
    """What each value is made from, without skip connections around an up-sampling."""
    ups = [node.index for node in traced.nodes if node.op in UPSAMPLING]

    def goes_around(skip: int, other: int) -> bool:
        while traced.nodes[skip].op in _CUTS and len(traced.nodes[skip].inputs) == 1:
            skip = traced.nodes[skip].inputs[0]
        behind = [up for up in ups if up == other or ancestors[other] >> up & 1]
        return any(ancestors[up] >> skip & 1 for up in behind)

    return {
        node.index: tuple(
            i for i in node.inputs if not any(goes_around(i, o) for o in node.inputs if o != i)
        )
        for node in traced.nodes
    }


def _ancestors(traced: Trace, inputs: dict[int, tuple[int, ...]]) -> list[int]:
    """For each value a number with a bit set for every value that it is made from."""
    found: list[int] = []
    for node in traced.nodes:
        bits = 0
        for index in inputs.get(node.index, node.inputs):
            bits |= found[index] | 1 << index
        found.append(bits)
    return found
