"""Settings that are dataclasses: what kind of value each field takes."""

import dataclasses
import typing


def check_kinds(settings, name):
    """TypeError that begins with ``name`` for the first field whose value is of another kind than its annotation says;
    an int will do for a float, a bool is none."""
    for field in dataclasses.fields(settings):
        value, kinds = getattr(settings, field.name), typing.get_args(field.type) or (field.type,)
        allowed = (*kinds, int) if float in kinds else kinds
        if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in kinds):
            words = " or ".join("None" if kind is type(None) else kind.__name__ for kind in kinds)
            raise TypeError(f"{name}: {field.name} must be {words}, but got {value!r}")
