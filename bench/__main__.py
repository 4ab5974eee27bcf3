"""``python -m bench``: the same as ``convkit bench``."""

import sys

from convkit.cli import run

sys.exit(run(["bench", *sys.argv[1:]]))
