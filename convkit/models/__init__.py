"""The lecture's networks, each built from a namespace of layers: ``convkit.nn``, or ``torch.nn`` for the same one."""

from convkit.models.cnn import small_cnn
from convkit.models.mlp import mlp

__all__ = ["mlp", "small_cnn"]
