"""torch's switch for float32 convolutions on CUDA, which convkit's follow too."""

import torch


@torch.compiler.assume_constant_result
def _torch_allows_tf32():
    """A compiled graph keeps the answer of when it was traced."""
    return torch.backends.cudnn.conv.fp32_precision == "tf32"


def follow_torch(algorithm, input):
    """ "auto", or "auto_tf32" where float32 may be rounded to TF32: on CUDA, unless torch's own convolutions may not."""
    may_round = algorithm == "auto" and input.device.type == "cuda" and input.dtype == torch.float32
    return "auto_tf32" if may_round and _torch_allows_tf32() else algorithm
