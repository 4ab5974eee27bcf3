"""The arguments that every network has."""


def check_positive(network, **sizes):
    """ValueError that names the first of ``sizes`` that is no positive integer."""
    for name, value in sizes.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{network}: {name} must be a positive integer, but got {value!r}")
