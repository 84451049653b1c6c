"""All token sequences that were ever cached, with common beginnings stored once, and the snapshots along them.

A radix tree over token ids: an edge holds a run of tokens, sequences part where they differ. A snapshot is a depth on a
path; it can serve a prompt if the prompt takes the same path down to it. Cost of a call is linear in its tokens.
"""

import collections

import numpy as np

from labkit.thinking import common_prefix


class Node:
    """A run of tokens below a parent. `depth` is where it ends; `born` and `used` are calls."""

    __slots__ = ("born", "children", "depth", "parent", "snapshots", "tokens", "used")

    def __init__(self, tokens: np.ndarray, depth: int, parent, born: int):
        self.tokens, self.depth, self.parent, self.born, self.used = tokens, depth, parent, born, born
        self.children, self.snapshots = {}, {}


class Snapshot:
    """A saved state at a depth within the run of a node."""

    __slots__ = ("depth", "node")

    def __init__(self, node, depth):
        self.node, self.depth = node, depth


class Tree:
    """The tree, and the snapshots in the order in which they were last of use.

    Args:
        keep: how many snapshots there may be; None for any number. The one that was of no use longest goes first.
    """

    def __init__(self, keep: int | None = None):
        self.root, self.keep = Node(np.empty(0, np.int32), 0, None, -1), keep
        self.live = None  # (node, depth) of the state that the last call ended with
        self.order = collections.OrderedDict()  # snapshots, the longest unused first

    def match(self, ids: np.ndarray, call: int | None = None) -> tuple[int, Node]:
        """(shared tokens, node where the sharing ends): the longest beginning of `ids` that is in the tree.

        With a call, the tokens on the way count as used by it.
        """
        node, at = self.root, 0
        while at < len(ids):
            child = node.children.get(int(ids[at]))
            if child is None:
                break
            same = common_prefix(child.tokens, ids[at : at + len(child.tokens)])
            whole = same == len(child.tokens)
            node, at = child if whole else self._split(child, same), at + same
            if call is not None:
                node.used = call
            if not whole:
                break
        return at, node

    def add(self, ids: np.ndarray, call: int, after: tuple[int, Node]) -> Node:
        """Put a sequence into the tree; `after` is what `match` gave for it. Returns its last node."""
        at, node = after
        if at < len(ids):
            child = Node(np.array(ids[at:], np.int32), len(ids), node, call)  # a view would hold the whole prompt
            node.children[int(ids[at])] = child
            node = child
        return node

    def snapshot(self, node: Node, depth: int) -> bool:
        """Save a state at a depth of the path that ends in `node`; older ones give way if there are too many.

        Returns:
            whether there was none before.
        """
        node = _home(node, depth)
        first = depth not in node.snapshots
        saved = node.snapshots.setdefault(depth, Snapshot(node, depth))
        self.order[saved] = None
        self.order.move_to_end(saved)
        while self.keep is not None and len(self.order) > self.keep:
            old, _ = self.order.popitem(last=False)
            del old.node.snapshots[old.depth]
        return first

    def best(self, node: Node, limit: int) -> int:
        """The deepest snapshot on the path to `node`, at most `limit` deep; 0 if there is none."""
        while node is not None:
            fitting = [depth for depth in node.snapshots if depth <= limit]
            if fitting:
                self.order.move_to_end(node.snapshots[max(fitting)])
                return max(fitting)
            node = node.parent
        return 0

    def drop(self, node: Node, depth: int) -> None:
        """Forget one snapshot, if it is there."""
        dropped = _home(node, depth).snapshots.pop(depth, None)
        if dropped is not None:
            del self.order[dropped]

    def only(self, node: Node) -> None:
        """Forget every sequence but the path to `node`, and the snapshots beside it: a cache of a single slot."""
        for child in node.children.values():
            self._forget(child)
        node.children = {}
        while node.parent is not None:
            for child in [other for other in node.parent.children.values() if other is not node]:
                self._forget(child)
            node.parent.children = {int(node.tokens[0]): node}
            node = node.parent

    def nodes(self) -> list[Node]:
        """All nodes below the root."""
        return [node for child in self.root.children.values() for node in _below(child)]

    def _split(self, node, at):
        """Cut a run in two; returns the upper part."""
        upper = Node(node.tokens[:at], node.depth - len(node.tokens) + at, node.parent, node.born)
        upper.used = node.used
        node.parent.children[int(node.tokens[0])] = upper
        node.tokens, node.parent = node.tokens[at:], upper
        upper.children[int(node.tokens[0])] = node
        for depth in [depth for depth in node.snapshots if depth <= upper.depth]:
            upper.snapshots[depth] = moved = node.snapshots.pop(depth)
            moved.node = upper
        return upper

    def _forget(self, node):
        for below in _below(node):
            for snapshot in below.snapshots.values():
                del self.order[snapshot]
            below.snapshots = {}


def _below(node):
    """A node and all nodes below it."""
    stack = [node]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(node.children.values())


def _home(node, depth):
    """The node of the path to `node` whose run holds a depth."""
    while node.parent is not None and depth <= node.depth - len(node.tokens):
        node = node.parent
    return node
