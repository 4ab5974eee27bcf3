"""Numbers as the report's language writes them: 98.9 and 22,910,480 in English, 98,9 and 22.910.480 in Portuguese."""

import string

_EXCHANGED = str.maketrans(".,", ",.")


def number(value, words, spec=""):
    """``format(value, spec)`` with the decimal and thousands separators of ``words``; texts are left as they are."""
    text = format(value, spec)
    return text.translate(_EXCHANGED) if words.DECIMAL == "," and isinstance(value, (int, float)) else text


def percent(fraction, words):
    return f"{number(100 * fraction, words, '.1f')} %"


class _Formatter(string.Formatter):
    def __init__(self, words):
        self.words = words

    def format_field(self, value, format_spec):
        return number(value, self.words, format_spec)


def fill(template, words, **values):
    """``template.format(**values)`` with numbers as ``words`` write them."""
    return _Formatter(words).vformat(template, (), values)
