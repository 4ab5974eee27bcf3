"""The ops: one file per op, with its public function, fake kernel and gradient."""

from convkit._library import _C as _C  # registers them
