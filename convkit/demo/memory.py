"""Memory of one training step of the small CNN, measured in a process of its own.

``python -m convkit.demo.memory convkit.nn 28 256 channels_last`` prints one line of JSON:

``saved_bytes``  bytes of the distinct storages that autograd keeps from forward to backward, without weights and batch
``peak_bytes``   the largest resident set during forward, loss and backward, minus the resident set before them;
                 null where the system has no /proc/self/clear_refs
"""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import torch

from convkit.models import small_cnn


def measure(layers, image_size, batch, memory_format):
    """Run it in a fresh process; the arguments are those of the command line, the answer its JSON as a dict."""
    command = [sys.executable, "-m", "convkit.demo.memory", layers, str(image_size), str(batch), memory_format]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the memory measurement ended with code {done.returncode}: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout.splitlines()[-1])


def saved_bytes(model, images, labels):
    """Bytes that autograd keeps between forward and backward, beyond the weights and the batch itself."""
    storages = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = torch.nn.functional.cross_entropy(model(images), labels)  # alive: no address is used twice
    del loss
    for tensor in [*model.parameters(), images, labels]:
        storages.pop(tensor.untyped_storage().data_ptr(), None)
    return sum(storages.values())


def _status(field):
    text = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith(field))


def peak_bytes(step):
    """How far ``step()`` raises the resident set of this process.

    Not ``ru_maxrss``: a process inherits that from the one that started it.
    """
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again from here
        before = _status("VmRSS")
    except OSError:
        return None
    step()
    return _status("VmHWM") - before


def main(layers, image_size, batch, memory_format):
    torch.manual_seed(0)
    memory_format = getattr(torch, memory_format)
    model = small_cnn(image_size=image_size, layers=importlib.import_module(layers)).to(memory_format=memory_format)
    images = torch.rand(batch, 1, image_size, image_size).to(memory_format=memory_format)
    labels = torch.randint(10, (batch,))

    def step(count=batch):
        torch.nn.functional.cross_entropy(model(images[:count]), labels[:count]).backward()

    step(2)  # starts the threads and creates the gradients
    peak = peak_bytes(step)
    print(json.dumps({"saved_bytes": saved_bytes(model, images, labels), "peak_bytes": peak}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
