"""Writes the measured table of README.md from a file of bench/results/: ``python -m bench.readme``.

Between the two markers of the README stands what ``convkit bench`` measured; the first of them names the file.
"""

import re
from pathlib import Path

from convkit.benchmark.rows import read_csv
from convkit.benchmark.summary import as_markdown

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
BLOCK = re.compile(r"(<!-- measured: (?P<file>\S+) -->\n).*?(<!-- measured: end -->)", re.DOTALL)


def updated(text):
    """The README's text with every measured block written anew from its file."""
    return BLOCK.sub(
        lambda found: f"{found[1]}\n{as_markdown(read_csv(HERE.parent / found['file']))}\n\n{found[3]}", text
    )


if __name__ == "__main__":
    README.write_text(updated(README.read_text(encoding="utf-8")), encoding="utf-8")
