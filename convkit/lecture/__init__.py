"""``convkit lecture``: every example and exercise of the lecture, computed on convkit and told in one HTML page."""
