"""Makes every test start from the same state."""

import sys

import hypothesis
import pytest
import torch

hypothesis.settings.register_profile("convkit", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("convkit")


@pytest.fixture(autouse=True)
def same_start():
    """Seed torch, compute float32 as such on CUDA, forget what was compiled, and give back the threads a test took."""
    threads = torch.get_num_threads()
    torch.manual_seed(0)
    if torch.cuda.is_available():
        torch.backends.cudnn.conv.fp32_precision = "ieee"
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()
    yield
    torch.set_num_threads(threads)
