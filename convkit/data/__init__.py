"""Data sets that come with packages, CSV files, folders of images, and video: ``convkit.data.load("wine")``."""

from convkit.data.dataset import Data, Options
from convkit.data.folder import ImageFolder
from convkit.data.sources import SOURCES, load

__all__ = ["SOURCES", "Data", "ImageFolder", "Options", "load"]
