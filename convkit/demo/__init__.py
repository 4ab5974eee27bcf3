"""``convkit demo``: the lecture's examples and the ops, on this machine, told in one HTML page."""
