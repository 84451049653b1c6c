"""All token sequences that were ever cached, with common beginnings stored once, and the snapshots along them.

A radix tree over token ids: an edge holds a run of tokens, sequences part where they differ. A snapshot is a depth on a
path; it can serve a prompt if the prompt takes the same path down to it. Several books of snapshots share one tree. A
call that goes on from the one before is compared with it in one step, so its cost is that of reading its tokens.
"""

import collections

import numpy as np

from labkit.thinking import common_prefix


class Node:
    """A run of tokens below a parent. `depth` is where it ends; `born` and `used` are calls; `saved` is by book."""

    __slots__ = ("born", "children", "depth", "parent", "saved", "tokens", "used")

    def __init__(self, tokens: np.ndarray, depth: int, parent, born: int):
        self.tokens, self.depth, self.parent, self.born, self.used = tokens, depth, parent, born, born
        self.children, self.saved = {}, {}

    @property
    def begin(self) -> int:
        """The depth at which the run begins."""
        return self.depth - len(self.tokens)


class Snapshot:
    """A saved state at a depth within the run of a node."""

    __slots__ = ("depth", "node")

    def __init__(self, node, depth):
        self.node, self.depth = node, depth


class Tree:
    """The token sequences."""

    def __init__(self):
        self.root = Node(np.empty(0, np.int32), 0, None, -1)
        self.last, self.end = self.root.tokens, self.root  # the sequence that was added last, and its node

    def match(self, ids: np.ndarray, call: int | None = None) -> tuple[int, Node]:
        """(shared tokens, node where the sharing ends): the longest beginning of `ids` that is in the tree.

        With a call, the tokens on the way count as used by it.
        """
        same = common_prefix(self.last, ids)
        node = self.end
        while same < node.begin or (node.parent is not None and same == node.begin):
            node = node.parent
        if same < node.depth:
            node = self._split(node, same - node.begin)
        at, whole = same, True
        while at < len(ids) and whole and (child := node.children.get(int(ids[at]))) is not None:
            same = common_prefix(child.tokens, ids[at : at + len(child.tokens)])
            whole = same == len(child.tokens)
            node, at = child if whole else self._split(child, same), at + same
        above = node if call is not None else None
        while above is not None:
            above.used, above = call, above.parent
        return at, node

    def add(self, ids: np.ndarray, call: int, after: tuple[int, Node]) -> Node:
        """Put a sequence into the tree; `after` is what `match` gave for it. Returns its last node."""
        at, node = after
        if at < len(ids):
            child = Node(np.array(ids[at:], np.int32), len(ids), node, call)  # a view would hold the whole prompt
            node.children[int(ids[at])] = child
            node = child
        self.last, self.end = ids, node
        return node

    def beyond(self, node: Node) -> np.ndarray:
        """What followed the tokens of a node in the sequence, of those that pass it, in use last; may be empty."""
        runs = []
        while node.children:
            node = max(node.children.values(), key=lambda child: (child.used, child.born))
            runs.append(node.tokens)
        return np.concatenate(runs) if runs else node.tokens[:0]

    def only(self, node: Node) -> None:
        """Forget every sequence but the path to `node`, and the snapshots beside it: a cache of a single slot."""
        for child in node.children.values():
            _forget(child)
        node.children = {}
        self.last, self.end = self.root.tokens, self.root
        while node.parent is not None:
            for child in [other for other in node.parent.children.values() if other is not node]:
                _forget(child)
            node.parent.children = {int(node.tokens[0]): node}
            node = node.parent

    def nodes(self) -> list[Node]:
        """All nodes below the root."""
        return [node for child in self.root.children.values() for node in _below(child)]

    def _split(self, node, at):
        """Cut a run in two; returns the upper part."""
        upper = Node(node.tokens[:at], node.begin + at, node.parent, node.born)
        upper.used = node.used
        node.parent.children[int(node.tokens[0])] = upper
        node.tokens, node.parent = node.tokens[at:], upper
        upper.children[int(node.tokens[0])] = node
        for book, saved in node.saved.items():
            for depth in [depth for depth in saved if depth <= upper.depth]:
                moved = upper.saved.setdefault(book, {})[depth] = saved.pop(depth)
                moved.node = upper
        return upper


class Book:
    """Snapshots along the sequences of a tree, in the order in which they were last of use.

    Args:
        keep: how many there may be; None for any number. The one that was of no use longest goes first.
    """

    def __init__(self, keep: int | None = None):
        self.keep = keep
        self.live = None  # (node, depth) of the state that the last call ended with
        self.order = collections.OrderedDict()  # snapshots, the longest unused first

    def save(self, node: Node, depth: int) -> bool:
        """Save a state at a depth of the path that ends in `node`; older ones give way if there are too many.

        Returns:
            whether there was none before.
        """
        node = _home(node, depth)
        saved = node.saved.setdefault(self, {})
        first = depth not in saved
        snapshot = saved.setdefault(depth, Snapshot(node, depth))
        self.order[snapshot] = None
        self.order.move_to_end(snapshot)
        while self.keep is not None and len(self.order) > self.keep:
            old, _ = self.order.popitem(last=False)
            del old.node.saved[self][old.depth]
        return first

    def best(self, node: Node, limit: int) -> int:
        """The deepest snapshot on the path to `node`, at most `limit` deep; 0 if there is none."""
        while node is not None and self.order:
            saved = node.saved.get(self)
            fitting = [depth for depth in saved if depth <= limit] if saved else []
            if fitting:
                self.order.move_to_end(saved[max(fitting)])
                return max(fitting)
            node = node.parent
        return 0

    def drop(self, node: Node, depth: int) -> None:
        """Forget one snapshot, if it is there."""
        dropped = _home(node, depth).saved.get(self, {}).pop(depth, None)
        if dropped is not None:
            del self.order[dropped]


def _forget(node):
    for below in _below(node):
        for book, saved in below.saved.items():
            for snapshot in saved.values():
                del book.order[snapshot]
        below.saved = {}


def _below(node):
    """A node and all nodes below it."""
    stack = [node]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(node.children.values())


def _home(node, depth):
    """The node of the path to `node` whose run holds a depth."""
    while node.parent is not None and depth <= node.begin:
        node = node.parent
    return node
