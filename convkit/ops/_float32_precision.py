"""torch's switch for float32 convolutions on CUDA, which convkit's follow too."""

import torch


@torch.compiler.assume_constant_result
def _torch_allows_tf32():
    """A compiled graph keeps the answer of when it was traced."""
    return torch.backends.cudnn.conv.fp32_precision == "tf32"


def follow_torch(algorithm, input):
    """The algorithm; of "auto" on CUDA, "auto_tf32" where torch's own convolutions may round float32 to TF32."""
    may_round = algorithm == "auto" and input.is_cuda and input.dtype == torch.float32
    return "auto_tf32" if may_round and _torch_allows_tf32() else algorithm
