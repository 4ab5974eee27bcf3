"""The runner of test_bad_input.py itself: what crashes or hangs is named, and the others are still run."""

from _isolated import outcomes


def test_names_what_crashes_hangs_raises_and_returns():
    actual = outcomes(
        {
            "returns": "result = 1 + 1",
            "crashes": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
            "raises": "raise ValueError('why')",
            "hangs": "while True: pass",
            "exits": "import os; os._exit(3)",
            "last": "result = torch.ones(2).sum().item()",
        },
        seconds=4,
    )
    assert actual == {
        "returns": ("returned", "2"),
        "crashes": ("lost", "ends the process with -11"),
        "raises": ("ValueError", "why"),
        "hangs": ("lost", "hangs"),
        "exits": ("lost", "ends the process with 3"),
        "last": ("returned", "2.0"),
    }
