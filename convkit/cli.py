"""The command line: what each command takes, and errors in one sentence.

Exit codes: 0 done, 1 the command failed, 2 the command line is wrong or convkit cannot be imported (``_library.py``
prints why), 130 interrupted. argparse, because ``convkit info`` works where torch alone is installed; a command's other
imports wait until it runs.
"""

import argparse
import json
import sys
from pathlib import Path

from convkit import commands
from convkit._text import reason
from convkit.benchmark.options import add_arguments as add_bench_arguments

# Modules that extras bring -> the extra.
EXTRAS = dict.fromkeys(
    ("numpy", "sklearn", "matplotlib", "tqdm", "safetensors", "PIL", "mlxtend", "skimage", "skorch"), "train"
)
EXTRAS |= {"av": "video", "skvideo": "video", "tensorboard": "tensorboard"}
BENCH_EXTRAS = EXTRAS | dict.fromkeys(("numpy", "matplotlib", "tqdm"), "bench")  # the same, for `convkit bench`

DESCRIPTION = """\
Fast 2-D convolution, ReLU and max-pooling for PyTorch, with their own CPU and CUDA kernels.
Start with `convkit demo`: it runs every op beside torch's and writes a report to read in a browser.
Then `convkit train digits --model small-cnn` trains a network of your own."""
EXAMPLES = """\
examples:
  convkit demo --quick          a report in well under a minute
  convkit demo --output out     the whole demo; the report is out/index.html
  convkit train wine --model mlp                               the lecture's network on the lecture's data
  convkit predict three.png --run runs/digits-small-cnn        the five likeliest classes, and the time
  convkit lecture ear filters   convolutions by hand, every feature map drawn; alone: the whole lecture
  convkit bench --quick         convkit beside torch within a minute; without --quick, 38 minutes
  convkit info                  what was built, and what this machine runs
  convkit info --json           the same for scripts
  CONVKIT_ISA=avx2 convkit info how it looks on a machine without AVX-512"""


def _demo(arguments):
    from convkit.demo.report import write

    print(f"Report: {write(Path(arguments.output), quick=arguments.quick)}")


def _info(arguments):
    from convkit import info

    found = info.collect()
    print(json.dumps(found, indent=2) if arguments.json else info.as_text(found))


def _bench(arguments):
    from convkit.benchmark.command import main

    main(arguments)


def parser():
    raw = argparse.RawDescriptionHelpFormatter
    top = argparse.ArgumentParser("convkit", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=raw)
    subparsers = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    demo = subparsers.add_parser(
        "demo",
        help="train, compare and time on this machine; writes one HTML page",
        description="Compute the lecture's convolution by hand, train the lecture's networks beside scikit-learn and "
        "torch.nn, time each op beside torch's, and write one self-contained HTML page. Needs convkit[train].",
    )
    demo.add_argument("--output", default="demo-report", metavar="DIR", help="where index.html goes (%(default)s)")
    demo.add_argument("--quick", action="store_true", help="fewer samples and smaller ops: less than a minute")
    demo.set_defaults(command=_demo)

    for name, (module, text) in commands.COMMANDS.items():
        command = subparsers.add_parser(
            name, help=text, description=module.DESCRIPTION, epilog=module.EPILOG, formatter_class=raw
        )
        module.add_arguments(command)
        command.set_defaults(command=module.main)

    bench = subparsers.add_parser(
        "bench",
        help="time every op beside torch and other libraries",
        description="Time convkit and its peers on the same work in the same run, check every result against "
        "float64, print tables and write an HTML report, PNG pictures and a CSV file. Peers that are not installed are "
        "rows that say so. Needs convkit[bench].",
    )
    add_bench_arguments(bench)
    bench.set_defaults(command=_bench)

    info = subparsers.add_parser("info", help="what was built, and what this machine runs")
    info.add_argument("--json", action="store_true", help="print JSON")
    info.set_defaults(command=_info)
    return top


def _sentence(error):
    """The message of an error; of one that a process of a DataLoader hands on with its traceback, the last line."""
    text = reason(error)
    if "in DataLoader worker process" in text.partition("\n")[0]:
        text = text.rstrip().rpartition("\n")[2].partition(": ")[2]
    return text


def run(argv=None):
    """Run one command line (default: ``sys.argv[1:]``); returns the exit code, except for argparse's own exits."""
    arguments = parser().parse_args(argv)
    try:
        arguments.command(arguments)
    except ModuleNotFoundError as error:
        name = (error.name or "").split(".")[0]
        extras = BENCH_EXTRAS if arguments.command is _bench else EXTRAS
        if name not in extras:
            raise
        print(f"convkit: {name} is not installed: pip install 'convkit[{extras[name]}]'", file=sys.stderr)
        return 1
    except (OSError, RuntimeError, ValueError) as error:
        print(f"convkit: {_sentence(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("convkit: interrupted", file=sys.stderr)
        return 130
    return 0
