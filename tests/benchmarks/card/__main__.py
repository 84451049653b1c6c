"""`python -m tests.benchmarks.card table` writes README's table of speeds; anything else is `make bench`'s on_card."""

import sys

from labkit.terminal import command
from tests.benchmarks.card import book, table


@command
def main():
    """Run the command."""
    words = sys.argv[1:]
    return table.main() if words == ["table"] else book.main(words)


if __name__ == "__main__":
    sys.exit(main())
