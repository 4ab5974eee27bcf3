"""Memory of one training step (forward, cross-entropy, backward, SGD with momentum), in a process of its own.

``python -m convkit.testing.memory '{"build": "convkit.models:small_cnn", ...}'`` prints one line of JSON; `measure`
runs it and says what is in it.
"""

import importlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

import convkit


def measure(build, layers, input_size, memory_format, **options):
    """Measure one training step in a fresh process.

    Args:
        build: "module:function"; the function is called with ``layers=`` and ``options`` and returns the model.
        layers: name of a module of layers: "convkit.nn" or "torch.nn".
        input_size: of the batch, (N, C, H, W).
        memory_format: "channels_last" or "contiguous_format".

    Returns:
        dict of bytes: ``saved`` (distinct storages that autograd keeps from forward to backward, without weights and
        batch), ``peak`` (how far the step raises torch's allocations, and convkit's workspaces), ``resident`` (how far
        it raises the resident set; None where the system has no /proc/self/clear_refs), ``parameters``, ``gradients``
        and ``optimizer`` (held before the step, so in none of the others).
    """
    request = {
        "build": build,
        "layers": layers,
        "input_size": list(input_size),
        "memory_format": memory_format,
        "options": options,
    }
    command = [sys.executable, "-m", "convkit.testing.memory", json.dumps(request)]
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
        loss = cross_entropy(model(images), labels)  # alive: no address is used twice
    del loss
    for tensor in [*model.parameters(), images, labels]:
        storages.pop(tensor.untyped_storage().data_ptr(), None)
    return sum(storages.values())


def allocated_peak(step):
    """How far ``step()`` raises the bytes that torch's CPU allocator has given out, as torch's profiler counts them."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "trace.json"
        profile.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    memory = sorted((e for e in events if e.get("name") == "[memory]"), key=lambda e: e["ts"])
    before = memory[0]["args"]["Total Allocated"] - memory[0]["args"]["Bytes"] if memory else 0
    return max((e["args"]["Total Allocated"] - before for e in memory), default=0)


def resident_peak(step):
    """How far ``step()`` raises the resident set of this process; None where the system does not tell.

    Not ``ru_maxrss``: a process inherits that from the one that started it.
    """
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again from here
        before = _status("VmRSS")
    except OSError:
        return None
    step()
    return _status("VmHWM") - before


def _status(field):
    text = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith(field))


def _bytes(tensors):
    return sum(tensor.nbytes for tensor in tensors)


def main(build, layers, input_size, memory_format, options):
    torch.manual_seed(0)
    memory_format = getattr(torch, memory_format)
    module, _, function = build.partition(":")
    build = getattr(importlib.import_module(module), function)
    model = build(layers=importlib.import_module(layers), **options).to(memory_format=memory_format)
    images = torch.rand(input_size).to(memory_format=memory_format)
    with torch.no_grad():
        classes = model(images[:1]).shape[1]
    labels = torch.randint(classes, (len(images),))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)

    def step(count=None):
        cross_entropy(model(images[:count]), labels[:count]).backward()
        optimizer.step()

    step(2)  # starts the threads, creates gradients and momenta
    resident = resident_peak(step)
    workspace = convkit.memory_stats()["workspace_bytes"]
    found = {
        "saved": saved_bytes(model, images, labels),
        "peak": allocated_peak(step) + workspace,
        "resident": resident,
        "parameters": _bytes(model.parameters()),
        "gradients": _bytes(p.grad for p in model.parameters()),
        "optimizer": _bytes(state["momentum_buffer"] for state in optimizer.state.values()),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
