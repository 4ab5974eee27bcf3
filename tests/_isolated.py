"""Runs calls that may crash or hang in a process that may be lost: ``outcomes({name: code})``.

The cases of one call share a process until one of them kills it or is not done in time; that one is named, and the
next process goes on behind it.
"""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

CHILD = """
import json, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (24 << 30, resource.RLIM_INFINITY))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
import torch
cases = json.loads(sys.stdin.readline())
for name, code in cases:
    print(json.dumps(["start", name]), flush=True)
    scope = {"torch": torch}
    try:
        exec(code, scope)
        outcome = ["returned", str(scope.get("result"))]
    except BaseException as error:
        outcome = [type(error).__name__, str(error)]
    print(json.dumps([name, *outcome]), flush=True)
"""


def _run(cases, seconds, environment):
    """(results, name that was under way at the end or None, how the process ended)."""
    command = [sys.executable, "-c", CHILD]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, **environment}
    )
    process.stdin.write(json.dumps(cases) + "\n")
    process.stdin.close()
    results, under_way, late = {}, None, []

    def end():
        late.append(True)
        process.kill()

    timer = threading.Timer(seconds + 60, end)  # the first case also waits for torch
    timer.start()
    for line in process.stdout:
        timer.cancel()
        first, *rest = json.loads(line)
        if first == "start":
            under_way = rest[0]
        else:
            results[first], under_way = tuple(rest), None
        timer = threading.Timer(seconds, end)
        timer.start()
    timer.cancel()
    code = process.wait()
    return results, under_way, "hangs" if late else f"ends the process with {code}"


def outcomes(cases, seconds=20, environment=None):
    """What each piece of code does.

    Args:
        cases: name -> Python code, which may leave a ``result``.
        seconds: the time that each may take.
        environment: variables for the processes.

    Returns:
        name -> ("returned", text of the result), (name of the exception, its message), or ("lost", how).
    """
    left, done = list(cases.items()), {}
    while left:
        results, under_way, ended = _run(left, seconds, environment or {})
        done.update(results)
        if under_way is not None:
            done[under_way] = ("lost", ended)
        elif len(done) < len(cases):
            raise RuntimeError(f"the process of the cases {ended} between two of them")
        left = [(name, code) for name, code in left if name not in done]
    return done
