"""What messages share."""


def counted(count, noun):
    """A count and its noun: "1 thread", "2,000 samples"."""
    return f"{count:,} {noun}{'s' * (count != 1)}"
