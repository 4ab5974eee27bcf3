"""The convolutions that tests and benchmarks run: edge cases by name, small VGG-like layers, layouts, kinds of data."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Conv2dCase:
    """The sizes of one conv2d call; ``kernel``, ``stride``, ``padding``, ``dilation`` are (height, width)."""

    name: str
    batch: int
    in_channels: int
    size: tuple
    out_channels: int
    kernel: tuple = (3, 3)
    stride: tuple = (1, 1)
    padding: tuple = (0, 0)
    dilation: tuple = (1, 1)
    groups: int = 1

    def __str__(self):
        return self.name

    @property
    def input_size(self):
        return (self.batch, self.in_channels, *self.size)

    @property
    def weight_size(self):
        return (self.out_channels, self.in_channels // self.groups, *self.kernel)

    @property
    def arguments(self):
        """The keyword arguments of the call beside its tensors."""
        pairs = {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}
        return {**pairs, "groups": self.groups}


def _blocks():
    """Channel counts and widths just below, at and above the widths of vectors and blocks of any ISA."""
    for block in (8, 16, 32):
        for channels in (block - 1, block, block + 1):
            yield Conv2dCase(f"out_channels_{channels}", 2, 3, (5, 6), channels, padding=(1, 1))
    for lanes in (8, 16):
        for width in (lanes - 1, lanes + 1):
            yield Conv2dCase(f"width_{width}", 1, 4, (3, width), 9, padding=(1, 1))
            yield Conv2dCase(f"in_channels_{width}", 1, width, (4, 5), 5)


EDGE_CASES = (
    Conv2dCase("smallest", 1, 1, (1, 1), 1, (1, 1)),
    Conv2dCase("one_pixel_padded", 2, 3, (1, 1), 5, padding=(1, 1)),
    Conv2dCase("one_by_one", 2, 7, (5, 6), 9, (1, 1)),
    Conv2dCase("one_by_one_strided", 2, 7, (5, 6), 9, (1, 1), stride=(2, 3)),
    Conv2dCase("kernel_is_image", 3, 4, (5, 7), 6, (5, 7)),
    Conv2dCase("kernel_is_padded_image", 2, 4, (3, 5), 6, (5, 7), padding=(1, 1)),
    Conv2dCase("row_kernel", 2, 3, (6, 9), 8, (1, 5), padding=(0, 2)),
    Conv2dCase("column_kernel", 2, 3, (9, 6), 8, (5, 1), padding=(2, 0)),
    Conv2dCase("even_kernel", 2, 3, (7, 6), 8, (2, 4), padding=(1, 2)),
    Conv2dCase("padding_above_half_kernel", 2, 3, (4, 5), 7, padding=(2, 3)),
    Conv2dCase("padding_above_kernel", 1, 2, (3, 3), 5, (2, 2), padding=(4, 3)),
    Conv2dCase("stride_above_kernel", 2, 3, (11, 12), 8, (2, 2), stride=(3, 5)),
    Conv2dCase("stride_above_image", 2, 3, (4, 5), 8, stride=(9, 7), padding=(1, 1)),
    Conv2dCase("stride_leaves_rest", 2, 3, (8, 10), 8, stride=(2, 3)),
    Conv2dCase("stride_2_padded", 2, 5, (9, 8), 12, stride=(2, 2), padding=(1, 1)),
    Conv2dCase("unequal_pairs", 2, 3, (13, 11), 4, (3, 2), (1, 2), (2, 1), (2, 3)),
    Conv2dCase("dilation_2", 1, 5, (9, 11), 7, padding=(2, 2), dilation=(2, 2)),
    Conv2dCase("dilation_above_image", 1, 2, (3, 4), 3, padding=(5, 6), dilation=(5, 6)),
    Conv2dCase("dilation_and_stride", 2, 4, (12, 13), 6, (3, 3), (2, 2), (2, 2), (3, 2)),
    Conv2dCase("primes", 3, 7, (13, 11), 17, (5, 3), padding=(2, 1)),
    Conv2dCase("groups_2", 2, 6, (6, 7), 10, padding=(1, 1), groups=2),
    Conv2dCase("groups_wide", 1, 32, (5, 5), 36, padding=(1, 1), groups=2),
    Conv2dCase("depthwise", 2, 9, (7, 6), 9, padding=(1, 1), groups=9),
    Conv2dCase("depthwise_multiplier_strided", 2, 4, (7, 8), 12, stride=(2, 2), padding=(1, 1), groups=4),
    Conv2dCase("depthwise_dilated", 1, 17, (9, 9), 17, padding=(2, 2), dilation=(2, 2), groups=17),
    Conv2dCase("many_bands", 1, 3, (41, 43), 5, padding=(1, 1)),
    Conv2dCase("one_row", 2, 4, (1, 70), 6, (1, 3), padding=(0, 1)),
    Conv2dCase("one_column", 2, 4, (70, 1), 6, (3, 1), padding=(1, 0)),
    Conv2dCase("wide_row", 1, 1, (2, 1700), 3, (2, 3)),
    Conv2dCase("large_kernel", 1, 2, (14, 15), 3, (11, 11), (4, 4), (2, 2)),
    Conv2dCase("reduction_in_chunks", 1, 70, (4, 5), 6, padding=(1, 1)),
    Conv2dCase("channels_in_chunks", 1, 3, (4, 5), 300, (1, 1)),
    Conv2dCase("batch_0", 0, 3, (5, 6), 4, padding=(1, 1)),
    Conv2dCase("batch_13", 13, 2, (4, 3), 3, (2, 2)),
    *_blocks(),
)

# VGG16's layers with fewer channels and pixels, in its order.
VGG_CASES = (
    Conv2dCase("vgg_first", 2, 3, (32, 32), 16, padding=(1, 1)),
    Conv2dCase("vgg_second", 2, 16, (32, 32), 16, padding=(1, 1)),
    Conv2dCase("vgg_middle", 2, 32, (16, 16), 64, padding=(1, 1)),
    Conv2dCase("vgg_last", 2, 64, (7, 7), 64, padding=(1, 1)),
)

CASES = EDGE_CASES + VGG_CASES


def random(size, dtype=torch.float32, kind="normal", seed=0):
    """A tensor of reproducible data.

    ``kind`` is "normal"; "same_sign", where nothing cancels and a long sum errs most; or "offset", normal numbers far
    from zero, as in images that were not centred.
    """
    numbers = torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    if kind == "same_sign":
        numbers = numbers.abs() + 0.5
    elif kind == "offset":
        numbers = numbers + 100
    elif kind != "normal":
        raise ValueError(f"kind must be 'normal', 'same_sign' or 'offset', but got {kind!r}")
    return numbers.to(dtype)


def _sliced(tensor):
    """Every second row and column but the last of a larger tensor that is not a number elsewhere."""
    n, c, h, w = tensor.shape
    around = tensor.new_full((n, c + 1, 2 * h + 1, 2 * w + 2), float("nan"))
    view = around[:, 1:, 1::2, 1:-1:2][:, :, :h, :w]
    return view.copy_(tensor)


def _expanded(tensor):
    """The first image (or output channel) for all of them, with stride 0."""
    return tensor[:1].expand(tensor.shape)


# What a 4-D tensor may look like in memory. All but "expanded" keep its values.
LAYOUTS = {
    "contiguous": torch.Tensor.contiguous,
    "channels_last": lambda t: t.contiguous(memory_format=torch.channels_last),
    "sliced": _sliced,
    "transposed": lambda t: t.transpose(2, 3).contiguous().transpose(2, 3),
    "reversed": lambda t: t.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0),
    "expanded": _expanded,
}
