"""What messages share."""


def counted(count, noun):
    """A count and its noun: "1 thread", "2,000 samples"."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def reason(error):
    """The message of an error; of one of the operating system's, without its number."""
    text = getattr(error, "strerror", None)
    if not text:
        return str(error)
    return f"{text}: {error.filename}" if error.filename is not None else text
