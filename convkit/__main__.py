"""``convkit`` and ``python -m convkit``."""

import sys


def main():
    from convkit.cli import run

    return run()


if __name__ == "__main__":
    sys.exit(main())
