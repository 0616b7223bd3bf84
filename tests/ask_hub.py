"""A script for the tests: print the directory of each model, or why there is none."""

from minbert.errors import UserError
from minbert.weights.resolve import resolve


def main(argv: list[str]) -> int:
    """Print a line for each name."""
    for name in argv:
        try:
            print(resolve(name))
        except UserError as error:
            print(error)
    return 0
