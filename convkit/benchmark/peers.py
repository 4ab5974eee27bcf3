"""Inference engines beside which convkit is timed on whole networks, each set up as its documentation advises.

``PEERS`` maps a name to ``prepare(model, input, threads)``, which converts a network of ``torch.nn`` in ``eval()`` mode
and returns a function without arguments: it runs the network on that input, a float32 tensor (N, channels, height,
width), on that many threads, and returns the logits, (N, classes). All compute in float32. `PeerUnavailable` says why
a peer cannot take part.
"""

import contextlib
import importlib
import logging
import operator
import warnings
from functools import partial

import torch
from torch import nn
from torch._inductor import config as inductor_config
from torch.nn.utils.fusion import fuse_conv_bn_eval

from convkit.testing.timing import torch_threads


class PeerUnavailable(RuntimeError):
    """A peer, or something it needs, is not installed, or it cannot convert the model; one sentence says which."""


def _import(name):
    try:
        return importlib.import_module(name)
    except ImportError as error:
        absent = isinstance(error, ModuleNotFoundError) and error.name == name
        reason = "is not installed: pip install 'convkit[bench-peers]'" if absent else f"cannot be imported: {error}"
        raise PeerUnavailable(f"{name} {reason}") from error


@contextlib.contextmanager
def _converting(peer):
    """Within, a conversion that says nothing but why it failed: exporters warn of what is no concern of the caller."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    except PeerUnavailable:
        raise
    except Exception as error:  # converters raise whatever they like
        first_sentence = str(error).strip().partition("\n")[0].partition(". ")[0]
        no_compiler = any(sign in first_sentence for sign in ("InvalidCxxCompiler", "No such file or directory: 'g++'"))
        reason = "no C++ compiler" if no_compiler else f"{type(error).__name__}: {first_sentence}"
        raise PeerUnavailable(f"{peer}: {reason}") from error
    finally:
        logging.disable(disabled)


def _check(model, input):
    if model.training:
        raise ValueError("peers run inference: call model.eval() first")
    if input.dtype != torch.float32 or input.device.type != "cpu" or input.dim() != 4:
        raise ValueError(f"peers take float32 images (N, C, H, W) on the CPU, but got {input.dtype} {input.shape}")


def _torch_compile(model, input, threads, *, freezing):
    """torch.compile with inductor, without graph breaks; model and input keep their memory format."""
    name = "torch.compile+freezing" if freezing else "torch.compile"
    _check(model, input)
    with _converting(name), torch_threads(threads):
        # Every torch.nn module compiles the same wrapper: without isolation, eight networks would reach the limit of
        # recompilations, and each call would look through the others' guards.
        compiled = torch.compile(model, fullgraph=True, dynamic=False, isolate_recompiles=True)
        # As an option of torch.compile, freezing has no effect in torch 2.13: it is read while the first call compiles.
        with inductor_config.patch(freezing=freezing):
            compiled(input)

    def run():
        with torch.no_grad(), torch_threads(threads):  # the generated code has the number of threads built in
            return compiled(input)

    return run


def _onnxruntime(model, input, threads):
    """ONNX Runtime on the CPU: all graph optimisations; it reads the input where it lies."""
    _check(model, input)
    onnxruntime = _import("onnxruntime")
    _import("onnx"), _import("onnxscript")  # torch.onnx.export needs them
    input = input.contiguous()
    with _converting("onnxruntime"):
        onnx = torch.onnx.export(model, (input,), dynamo=True, verbose=False).model_proto.SerializeToString()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        # Threads spin between the operators of a run, not beyond it, where they would slow down whoever is timed next.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: input.numpy()}

    def run():
        [output] = session.run(None, feed)
        return torch.from_numpy(output)

    return run


def _openvino(model, input, threads):
    """OpenVINO on the CPU: one stream for the lowest latency, float32 also where the machine has faster formats."""
    _check(model, input)
    openvino = _import("openvino")
    input = input.contiguous()
    with _converting("openvino"):
        converted = openvino.convert_model(torch.export.export(model, (input,)))
        converted.reshape(list(input.shape))  # the exported shapes are static; without this OpenVINO's are not
        hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
        request = openvino.compile_model(converted, "CPU", hints).create_infer_request()
        request.set_input_tensor(openvino.Tensor(input.numpy()))  # a copy of its own

    def run():
        request.infer()
        return torch.from_numpy(request.get_output_tensor().data.copy())  # the next run overwrites it

    return run


def _pair(value):
    return value if isinstance(value, tuple) else (value, value)


def _conv_layer(conv):
    if isinstance(conv.padding, str) or conv.padding_mode != "zeros":
        raise PeerUnavailable(f"ncnn: no convolution with padding={conv.padding!r} of {conv.padding_mode}")
    (kh, kw), (dh, dw), (sh, sw), (ph, pw) = conv.kernel_size, conv.dilation, conv.stride, conv.padding
    keys = {0: conv.out_channels, 1: kw, 11: kh, 2: dw, 12: dh, 3: sw, 13: sh, 4: pw, 14: ph}
    keys |= {5: int(conv.bias is not None), 6: conv.weight.numel()}
    return ("Convolution", keys) if conv.groups == 1 else ("ConvolutionDepthWise", keys | {7: conv.groups})


def _linear_layer(linear):
    return "InnerProduct", {0: linear.out_features, 1: int(linear.bias is not None), 2: linear.weight.numel()}


def _max_pool_layer(pool):
    if pool.ceil_mode or _pair(pool.dilation) != (1, 1):
        raise PeerUnavailable("ncnn: no max-pooling with ceil_mode or dilation")
    (kh, kw), (sh, sw), (ph, pw) = _pair(pool.kernel_size), _pair(pool.stride), _pair(pool.padding)
    # 5=1 is "valid" padding: what is given is added and no more, so that sizes are rounded down as in torch.
    return "Pooling", {0: 0, 1: kw, 11: kh, 2: sw, 12: sh, 3: pw, 13: ph, 5: 1}


def _average_pool_layer(pool):
    oh, ow = _pair(pool.output_size)
    return "Pooling", {0: 1} | ({4: 1} if (oh, ow) == (1, 1) else {7: 1, 8: ow, 18: oh})


# Type of a module -> (ncnn's layer, its parameters by number); the numbers are those of ncnn's operators.md.
NCNN_LAYERS = {
    nn.Conv2d: _conv_layer,
    nn.Linear: _linear_layer,
    nn.MaxPool2d: _max_pool_layer,
    nn.AdaptiveAvgPool2d: _average_pool_layer,
    nn.ReLU: lambda relu: ("ReLU", {}),
    nn.ReLU6: lambda relu6: ("Clip", {0: 0.0, 1: 6.0}),
    nn.Flatten: lambda flatten: ("Flatten", {}),
}
NCNN_ACTIVATIONS = {nn.ReLU: "9=1", nn.ReLU6: "9=3 -23310=2,0.0,6.0"}  # folded into a layer: kind, array of limits


def _ncnn_graph(model):
    """The fx nodes that compute, with their modules as ``node.meta["module"]``, after what ncnn's own tools do too:
    normalisations and activations go into the layer before them, and what does nothing goes."""
    traced = torch.fx.symbolic_trace(model)
    for node in list(traced.graph.nodes):
        module = node.meta["module"] = traced.get_submodule(node.target) if node.op == "call_module" else None
        if module is None:
            continue
        before = node.args[0]
        layer = before.meta["module"] if len(before.users) == 1 and "activation" not in before.meta else None
        if isinstance(layer, nn.Conv2d) and isinstance(module, nn.BatchNorm2d):
            before.meta["module"] = fuse_conv_bn_eval(layer, module)
        elif isinstance(layer, (nn.Conv2d, nn.Linear)) and type(module) in NCNN_ACTIVATIONS:
            before.meta["activation"] = NCNN_ACTIVATIONS[type(module)]
        elif not isinstance(module, (nn.Dropout, nn.Identity)):
            continue
        node.replace_all_uses_with(before)
        traced.graph.erase_node(node)
    return list(traced.graph.nodes)


def _ncnn_layer(node):
    """Kind and parameters of the layer for one node, and its weights as bytes."""
    module = node.meta["module"]
    if node.op == "placeholder":
        return "Input", "", b""
    if node.op == "call_function" and node.target in (operator.add, torch.add) and len(node.all_input_nodes) == 2:
        return "BinaryOp", "0=0", b""
    if node.op == "call_function" and node.target is torch.flatten and node.args[1:] == (1,):
        return "Flatten", "", b""
    if type(module) not in NCNN_LAYERS:
        raise PeerUnavailable(f"ncnn: no layer for {node.format_node() if module is None else module}")
    kind, keys = NCNN_LAYERS[type(module)](module)
    text = " ".join([*(f"{key}={value}" for key, value in keys.items()), node.meta.get("activation", "")])
    tensors = [parameter.detach().contiguous().numpy().tobytes() for parameter in module.parameters()]
    return kind, text, b"".join([bytes(4), *tensors] if tensors else [])  # four zero bytes: float32 follows


def _ncnn_files(model):
    """ncnn's two files: the layers as text, and the weights; and the names of the input and of the logits."""
    lines, weights, values, count = [], [], {}, 0
    *nodes, returned = _ncnn_graph(model)
    for node in nodes:
        kind, text, data = _ncnn_layer(node)
        inputs = [values[source].pop() for source in node.all_input_nodes]
        lines.append(f"{kind} {node.name} {len(inputs)} 1 {' '.join(inputs)} {node.name} {text}")
        weights.append(data)
        values[node] = [node.name]
        if len(node.users) > 1:  # a value of ncnn has one user
            values[node] = [f"{node.name}_split{i}" for i in range(len(node.users))]
            lines.append(f"Split {node.name}_split 1 {len(node.users)} {node.name} {' '.join(values[node])}")
        count += len({node.name, *values[node]})
    text = "\n".join(["7767517", f"{len(lines)} {count}", *lines, ""])  # first the number that marks the format
    return text, b"".join(weights), nodes[0].name, values[returned.args[0]].pop()


def _ncnn(model, input, threads):
    """ncnn on the CPU, float32 throughout, Winograd as by default; one image after the other, as it has no batches."""
    _check(model, input)
    ncnn, numpy = _import("ncnn"), _import("numpy")
    with _converting("ncnn"):
        layers, weights, first, last = _ncnn_files(model)
        net = ncnn.Net()
        net.opt.num_threads = threads
        net.opt.lightmode = True
        for option in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
            setattr(net.opt, f"use_{option}", False)
        if net.load_param_mem(layers) != 0:
            raise PeerUnavailable("ncnn: it cannot read the network's layers")
        net.load_model_mem(weights)
    input = input.contiguous()
    images = [ncnn.Mat(image.numpy()).clone() for image in input]  # a Mat of an array does not keep the array alive

    def run():
        outputs = []
        for image in images:
            extractor = net.create_extractor()
            extractor.input(first, image)
            status, output = extractor.extract(last)
            if status != 0:
                raise RuntimeError(f"ncnn: extract returned {status}")
            outputs.append(torch.from_numpy(numpy.array(output)))
        return torch.stack(outputs)

    return run


PEERS = {
    "torch.compile": partial(_torch_compile, freezing=False),
    "torch.compile+freezing": partial(_torch_compile, freezing=True),
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
    "ncnn": _ncnn,
}
