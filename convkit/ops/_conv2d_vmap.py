"""vmap of the convolution ops: a batched image joins the batch, a batched weight becomes more groups."""

import torch


def _front(tensor, dim, size):
    """With the mapped dimension first; expanded where the tensor is not mapped."""
    if tensor is None:
        return None
    return tensor.unsqueeze(0).expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


def fold_batch(tensor):
    """[b, n, ...] -> [b * n, ...]"""
    return tensor.flatten(0, 1)


def unfold_batch(tensor, size):
    return tensor.unflatten(0, (size, -1))


def fold_channels(tensor):
    """[b, n, c, h, w] -> [n, b * c, h, w]"""
    return tensor.movedim(0, 1).flatten(1, 2)


def unfold_channels(tensor, size):
    return tensor.unflatten(1, (size, -1)).movedim(1, 0)


def conv2d(call, outputs=1):
    """The rule of an op (input, weight, bias, stride, padding, dilation, groups, ...) -> images."""

    def vmap(info, in_dims, input, weight, bias, stride, padding, dilation, groups, *rest):
        size = info.batch_size
        if in_dims[1] is None and (bias is None or in_dims[2] is None):
            images = fold_batch(input.movedim(in_dims[0], 0))
            result = call(images, weight, bias, stride, padding, dilation, groups, *rest)
            unfold = unfold_batch
        else:
            images = fold_channels(_front(input, in_dims[0], size))
            weights = fold_batch(_front(weight, in_dims[1], size))
            biases = None if bias is None else _front(bias, in_dims[2], size).flatten()
            result = call(images, weights, biases, stride, padding, dilation, groups * size, *rest)
            unfold = unfold_channels
        if outputs == 1:
            return unfold(result, size), 0
        return tuple(unfold(r, size) for r in result), (0,) * outputs

    return vmap


def backward_input(call):
    def vmap(info, in_dims, grad_output, weight, input_size, channels_last, stride, padding, dilation, groups, *rest):
        size, (n, c, h, w) = info.batch_size, input_size
        tail = (stride, padding, dilation)
        if in_dims[1] is None:
            grads = fold_batch(grad_output.movedim(in_dims[0], 0))
            result = call(grads, weight, [n * size, c, h, w], channels_last, *tail, groups, *rest)
            return unfold_batch(result, size), 0
        grads = fold_channels(_front(grad_output, in_dims[0], size))
        weights = fold_batch(_front(weight, in_dims[1], size))
        result = call(grads, weights, [n, c * size, h, w], channels_last, *tail, groups * size, *rest)
        return unfold_channels(result, size), 0

    return vmap


def backward_weight(call):
    def vmap(info, in_dims, grad_output, input, weight_size, channels_last, stride, padding, dilation, groups, *rest):
        size, (oc, *window) = info.batch_size, weight_size
        grads = fold_channels(_front(grad_output, in_dims[0], size))
        images = fold_channels(_front(input, in_dims[1], size))
        tail = (channels_last, stride, padding, dilation, groups * size, *rest)
        return unfold_batch(call(grads, images, [oc * size, *window], *tail), size), 0

    return vmap


def backward_bias(call):
    def vmap(info, in_dims, grad_output):
        return call(fold_channels(grad_output.movedim(in_dims[0], 0))).unflatten(0, (info.batch_size, -1)), 0

    return vmap


def linear(call):
    """The rule of linear(input [m, k], weight [n, k], bias, activation)."""

    def vmap(info, in_dims, input, weight, bias, activation):
        size = info.batch_size
        if in_dims[1] is None and (bias is None or in_dims[2] is None):
            result = call(fold_batch(input.movedim(in_dims[0], 0)), weight, bias, activation)
            return unfold_batch(result, size), 0
        rows = [_front(t, dim, size) for t, dim in zip((input, weight, bias), in_dims, strict=False)]
        parts = zip(*(r.unbind(0) if r is not None else [None] * size for r in rows), strict=True)
        return torch.stack([call(*part, activation) for part in parts]), 0

    return vmap
