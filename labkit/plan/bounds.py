"""What bounds the memory of this process: the machine, the control groups that it runs in, and its own limits.

A container's limit is that of a control group (cgroup v2: `memory.max`, v1: `memory.limit_in_bytes`), its own or one
further up; pages of files that nobody uses count as free, as the kubelet counts them. `ulimit -v` bounds the address
space, `ulimit -d` the data.
"""

import functools
import pathlib
from collections.abc import Iterator

GROUPS = "sys/fs/cgroup"
# Where the kernel mounts them, and the files of (limit, use, pages of files that can go).
VERSIONS = {
    2: (GROUPS, ("memory.max", "memory.high"), "memory.current", "inactive_file"),
    1: (f"{GROUPS}/memory", ("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file"),
}
UNBOUND = 2**60  # cgroup v1 writes a number above this for no limit


def host(root: str = "/") -> tuple[int, str]:
    """(bytes that this process can still take, what bounds it).

    Args:
        root: of the file system that holds /proc and /sys.
    """
    import psutil

    found = [(psutil.virtual_memory().available, "host memory"), *groups(root), *own(root)]
    free, where = min(found)
    return max(free, 0), where


def groups(root: str = "/") -> Iterator[tuple[int, str]]:
    """(bytes free, name) of every control group with a limit that this process runs in, from its own upwards."""
    for limits, use, stat, unused in _files(root):
        most = [limit for path in limits if (limit := _number(path)) is not None and limit < UNBOUND]
        now = _number(use) if most else None
        if now is not None:
            yield min(most) - now + _row(stat, unused), "the memory limit of the container (cgroup)"


def own(root: str = "/") -> Iterator[tuple[int, str]]:
    """(bytes free, name) of each limit of the process itself; Linux alone enforces them."""
    try:
        import resource
    except ImportError:
        return
    kinds = ((resource.RLIMIT_AS, 0, "-v"), (resource.RLIMIT_DATA, 5, "-d"))
    limits = [(resource.getrlimit(kind)[0], column, letter) for kind, column, letter in kinds]
    limits = [each for each in limits if each[0] != resource.RLIM_INFINITY]
    try:
        pages = (pathlib.Path(root) / "proc/self/statm").read_text().split() if limits else []
        for most, column, letter in limits:
            yield (
                most - int(pages[column]) * resource.getpagesize(),
                f"the limit of this process (ulimit {letter})",
            )
    except (OSError, ValueError):
        return


@functools.cache
def _files(root):
    """(limits, use, table, row of pages that can go) of the control groups of this process, from its own upwards."""
    root = pathlib.Path(root)
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        number, controllers, path = (line.split(":", 2) + ["", ""])[:3]
        version = 2 if number == "0" else 1 if "memory" in controllers.split(",") else None
        if version is not None:
            top, inner = root / VERSIONS[version][0], pathlib.PurePosixPath(path.lstrip("/"))
            # Inside a container the path may be that of the host, and the own group mounted at the top.
            found += [(version, top / up) for up in (inner, *inner.parents) if ".." not in up.parts]
    files = []
    for version, folder in dict.fromkeys(found):
        if folder.is_dir():
            _, limits, use, unused = VERSIONS[version]
            limits = [path for name in limits if (path := folder / name).exists()]  # those at the top have none
            files.append((limits, folder / use, folder / "memory.stat", unused))
    return files


def _number(path):
    """The number that a file holds; None for "max", another text, or no such file."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _row(path, name):
    """The number after a name in a table of names and numbers; 0 where it is missing."""
    try:
        rows = (line.split() for line in path.read_text().splitlines())
        return next((int(row[1]) for row in rows if len(row) == 2 and row[0] == name), 0)
    except (OSError, ValueError):
        return 0
