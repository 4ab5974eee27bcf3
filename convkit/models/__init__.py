"""The lecture's networks, each built from a namespace of layers: ``convkit.nn``, or ``torch.nn`` for the same one."""

from convkit.models._summary import summary
from convkit.models.cnn import small_cnn
from convkit.models.mlp import Suggestion, linear_model, mlp, suggest_mlp
from convkit.models.vgg import vgg16, vgg19
from convkit.models.video import video_cnn
from convkit.models.xception import xception

__all__ = [
    "Suggestion",
    "linear_model",
    "mlp",
    "small_cnn",
    "suggest_mlp",
    "summary",
    "vgg16",
    "vgg19",
    "video_cnn",
    "xception",
]
