"""``convkit bench``: what it runs, prints and writes."""

from pathlib import Path

import torch

from convkit._text import counted
from convkit.benchmark import plan, report, rows, run, summary
from convkit.benchmark.options import DEFAULT_MINUTES, QUICK_MINUTES


def main(arguments):
    """Run the benchmark that parsed ``arguments`` ask for."""
    threads = tuple(arguments.threads or (() if arguments.quick else (1,)) + (torch.get_num_threads(),))
    if min(threads) < 1:
        raise RuntimeError(f"--threads must be at least 1, but got {min(threads)}")
    if arguments.minutes is not None and not arguments.minutes > 0:
        raise RuntimeError(f"--minutes must be positive, but got {arguments.minutes:g}")
    options = plan.Options(
        suites=tuple(arguments.suite),
        directions=tuple(arguments.direction),
        dtypes=tuple(arguments.dtype),
        threads=tuple(dict.fromkeys(threads)),
        formats=tuple(arguments.format),
        against=tuple(arguments.against or plan.Options().against),
        quick=arguments.quick,
    )
    html = Path(arguments.html)
    html.parent.mkdir(parents=True, exist_ok=True)  # before the work, so that a wrong path costs no minutes
    csv = Path(arguments.csv or html.parent / "rows.csv")
    result = run.run(options, arguments.minutes or (QUICK_MINUTES if arguments.quick else DEFAULT_MINUTES))
    rows.write_csv(csv, result.rows)
    if arguments.json:
        rows.write_json(arguments.json, result.rows, result.limits)
    report.write(html, result)
    _print(result)
    print(f"\nReport: {html}\nRows: {csv}")


def _print(result):
    for (suite, direction, dtype, threads), members in summary.groups(result.rows).items():
        print(f"\n{suite}, {direction}, {dtype}, {counted(threads, 'thread')}: milliseconds, warm")
        print(summary.layer_table(members))
    for table in (summary.network_table(result.rows), summary.memory_table(result.rows)):
        if table:
            print(f"\n{table}")
    print("\nTorch's time / convkit's (above 1 convkit is faster), geometric means; best: each in its better format,")
    print("total: the whole network, cold")
    print(summary.as_text(summary.summarise(result.rows)))
