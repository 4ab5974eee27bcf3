"""``convkit lecture``."""

CHAPTERS = ("wine", "ear", "parameters", "invariance", "ilsvrc", "table", "filters", "denoise")

DESCRIPTION = """\
The examples and exercises of a lecture on MLPs and CNNs, computed on convkit and drawn in one HTML page:
  wine        the rule of thumb's network on the Wine data, beside scikit-learn's
  ear         a convolution by hand, every feature map drawn, up to its classification layer; stride 1, 2, 3
  parameters  how the parameters of an MLP and of a CNN grow with the image
  invariance  how both read translated, rotated and scaled digits, with and without max-pooling
  ilsvrc      VGG16, VGG19 and Xception: published figures, and size and milliseconds here
  table       exercise 1: a network by the rule of thumb for any CSV file, beside scikit-learn's
  filters     exercise 2: a chain of filters that detects a pattern; or the chain of a JSON file, step by step
  denoise     a CNN that takes noise out of photographs, before and after"""
EPILOG = """\
A chain in JSON, as for the lecture's first filter:
  {"image": [[3,0,0,3,0], [0,0,10,0,3], [0,10,3,10,0], [10,3,3,3,10], [3,3,3,3,3]],
   "layers": [{"filters": [[[-1,-1,1], [-1,1,-1], [1,-1,-1]]], "padding": 1, "max_pool": 2}]}
With "pattern": [[0,0,1], [0,1,0], [1,0,0]], "dark": 3, "bright": 10 in the place of "layers", the chain that detects
that pattern is proposed, run and drawn.

examples:
  convkit lecture                                    everything; some minutes
  convkit lecture ear filters                        two chapters, seconds
  convkit lecture --quick --lang pt                  everything in small, in Portuguese
  convkit lecture table --csv houses.csv --target price
  convkit lecture filters --chain chain.json"""


def add_arguments(parser):
    parser.add_argument("chapters", nargs="*", metavar="CHAPTER", help="of the above (all)")
    parser.add_argument("--output", default="lecture-report", metavar="DIR", help="where index.html goes (%(default)s)")
    parser.add_argument("--lang", choices=("en", "pt"), default="en", help="language of the page (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="smaller, with rough times: about three minutes")
    parser.add_argument("--csv", metavar="FILE", help="table for exercise 1 (breast cancer, from scikit-learn)")
    parser.add_argument("--target", metavar="COLUMN", help="its column to predict (the last)")
    parser.add_argument("--task", choices=("classification", "regression"), help="of the table (by its target)")
    parser.add_argument("--chain", metavar="FILE", help="JSON file with an image and filters for exercise 2")


def main(arguments):
    """Run the command that parsed ``arguments`` ask for."""
    unknown = [name for name in arguments.chapters if name not in CHAPTERS]
    if unknown:
        raise ValueError(f"lecture: there is no chapter {unknown[0]!r}; there are {', '.join(CHAPTERS)}")
    names = list(dict.fromkeys(arguments.chapters or CHAPTERS))
    for option, chapter in (("csv", "table"), ("target", "table"), ("task", "table"), ("chain", "filters")):
        if getattr(arguments, option) is not None and chapter not in names:
            raise ValueError(f"lecture: --{option} is for the chapter {chapter}, which is not asked for")
    if arguments.target is not None and arguments.csv is None:
        raise ValueError("lecture: --target names a column of a table: give --csv FILE")
    if arguments.task is not None and arguments.csv is None:
        raise ValueError("lecture: --task is for a table: give --csv FILE")
    from convkit.lecture.report import Settings, write

    options = {name: getattr(arguments, name) for name in ("quick", "csv", "target", "task", "chain")}
    print(f"Report: {write(arguments.output, names, arguments.lang, Settings(**options))}")
