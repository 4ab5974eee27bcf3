"""What bench.gpu_check measures: layers, precisions, memory formats and calls. No GPU is needed to know it."""

from dataclasses import dataclass
from itertools import product

# `tflops` of the rows of layer "ceiling" is what the machine does at most; GB/s in that of call "copy".
COLUMNS = ["layer", "sizes", "who", "precision", "format", "call", "algorithm", "microseconds", "tflops"]
COLUMNS += ["gb_per_s", "error", "state"]


@dataclass(frozen=True)
class Layer:
    """A convolution of square images, windows, strides and padding."""

    name: str
    batch: int
    channels: int
    size: int
    filters: int
    kernel: int
    stride: int = 1
    groups: int = 1

    @property
    def padding(self):
        return (self.kernel - 1) // 2

    @property
    def output_size(self):
        return (self.size + 2 * self.padding - self.kernel) // self.stride + 1

    @property
    def operations(self):
        window = self.channels // self.groups * self.kernel**2
        return 2 * self.batch * self.filters * self.output_size**2 * window

    @property
    def bytes(self):
        """Of input, weight and output, of one byte an element."""
        weight = self.filters * self.channels // self.groups * self.kernel**2
        return self.batch * (self.channels * self.size**2 + self.filters * self.output_size**2) + weight

    def __str__(self):
        groups = f" g{self.groups}" if self.groups > 1 else ""
        image = f"{self.batch}x{self.channels}x{self.size}x{self.size}"
        return f"{image}, {self.filters} {self.kernel}x{self.kernel} s{self.stride}{groups}"


LAYERS = [
    Layer("stem", 64, 3, 224, 64, 7, 2),
    Layer("vgg1_2", 32, 64, 224, 64, 3),
    Layer("vgg4_2", 32, 512, 28, 512, 3),
    Layer("res2", 64, 64, 56, 64, 3),
    Layer("res3", 64, 128, 28, 128, 3),
    Layer("res4", 64, 256, 14, 256, 3),
    Layer("res5", 64, 512, 7, 512, 3),
    Layer("expand", 64, 64, 56, 256, 1),
    Layer("reduce", 64, 256, 56, 64, 1),
    Layer("strided", 64, 128, 56, 128, 3, 2),
    Layer("one_56", 1, 64, 56, 64, 3),
    Layer("one_14", 1, 256, 14, 256, 3),
    Layer("depthwise3", 64, 384, 28, 384, 3, groups=384),
    Layer("depthwise7", 64, 96, 56, 96, 7, groups=96),
]

# Of pooling, and of element-wise operations.
POOLING_LAYERS = [
    Layer("pool2", 32, 64, 224, 64, 2, 2, groups=64),
    Layer("pool3", 64, 64, 112, 64, 3, 2, groups=64),
]
ELEMENTWISE_LAYERS = [Layer("relu", 32, 64, 224, 64, 1, groups=64)]

# float32 under torch.backends.cudnn.conv.fp32_precision, or a 16-bit dtype.
PRECISIONS = ["ieee", "tf32", "bfloat16", "float16"]
FORMATS = ["NCHW", "channels_last"]
# The most telling first, since a time limit may cut the list.
CALLS = ["conv+bias+relu", "conv+bias+relu+pool", "backward_input", "backward_weight", "conv", "conv+bias"]
# Calls without products, and the tensors of the input's and of the output's size that they read and write. Of one byte
# an element is the tap that a pooling's gradient reads.
BOUND_BY_MEMORY = {"max_pool2d": (1, 1), "max_pool2d_backward": (1, 1), "relu": (1, 1), "relu_backward": (2, 1)}
# Of convkit in ieee, beside what "auto" takes.
IEEE_ALGORITHMS = ["direct", "3xtf32"]


@dataclass(frozen=True)
class Case:
    layer: Layer
    precision: str
    format: str
    call: str
    algorithm: str = "auto"

    @property
    def bytes(self):
        """That a call without products reads and writes at least; 0 of one with products."""
        of_input, of_output = BOUND_BY_MEMORY.get(self.call, (0, 0))
        layer, itemsize = self.layer, 2 if self.precision in ("bfloat16", "float16") else 4
        outputs = layer.batch * layer.filters * layer.output_size**2
        elements = of_input * layer.batch * layer.channels * layer.size**2 + of_output * outputs
        return itemsize * elements + outputs * (self.call == "max_pool2d_backward")


def cases(who):
    """What to measure of "cudnn" or "convkit", in order: what memory bounds first."""
    every = [
        Case(layer, precision, format, call)
        for call, layer, precision, format in product(CALLS, LAYERS, PRECISIONS, FORMATS)
    ]
    if who == "convkit":
        dense = [layer for layer in LAYERS if layer.groups == 1]
        forced = [
            Case(layer, "ieee", format, CALLS[0], algorithm)
            for algorithm, layer, format in product(IEEE_ALGORITHMS, dense, FORMATS)
        ]
        first = len(every) // len(CALLS)
        every[first:first] = forced
    pooling = product(["max_pool2d", "max_pool2d_backward"], POOLING_LAYERS)
    elementwise = product(["relu", "relu_backward"], ELEMENTWISE_LAYERS)
    bound_by_memory = [
        Case(layer, precision, format, call)
        for (call, layer), precision, format in product([*pooling, *elementwise], ["ieee", "bfloat16"], FORMATS)
    ]
    return bound_by_memory + every
