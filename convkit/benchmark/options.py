"""The options of ``convkit bench``. Nothing here needs more than torch, so that ``--help`` works without the extras."""

from convkit.benchmark import plan, suites
from convkit.benchmark.calls import FORMATS
from convkit.benchmark.peers import PEERS

DIRECTIONS = ("forward", *plan.GRADIENTS)
DTYPES = ("float32", "bfloat16", "float16", "float64")
DEFAULT_MINUTES, QUICK_MINUTES = 38, 0.5


def add_arguments(parser):
    """Declare the options on an argparse parser."""
    every = [*suites.names(), *plan.NETWORK_SUITES]
    several = {"nargs": "+", "default": ()}
    parser.add_argument("--suite", choices=every, metavar="SUITE", **several, help=f"of {', '.join(every)}")
    parser.add_argument(
        "--against", choices=("torch", *PEERS), metavar="PEER", nargs="+", help=f"of torch, {', '.join(PEERS)}"
    )
    parser.add_argument("--direction", choices=DIRECTIONS, metavar="DIRECTION", **several, help=", ".join(DIRECTIONS))
    parser.add_argument("--dtype", choices=DTYPES, metavar="DTYPE", **several, help=", ".join(DTYPES))
    parser.add_argument("--threads", type=int, nargs="+", metavar="N", help="numbers of threads (1 and all)")
    parser.add_argument("--format", choices=tuple(FORMATS), nargs="+", default=tuple(FORMATS), metavar="FORMAT")
    parser.add_argument("--minutes", type=float, help=f"about how long the run may take ({DEFAULT_MINUTES})")
    parser.add_argument("--quick", action="store_true", help="a few layers on all threads, within a minute")
    parser.add_argument("--html", default="bench-report/index.html", metavar="PATH", help="the report (%(default)s)")
    parser.add_argument("--csv", metavar="PATH", help="every row (rows.csv beside the report)")
    parser.add_argument("--json", metavar="PATH", help="the same rows and the machine's limits as JSON")
