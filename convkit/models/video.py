"""A (2+1)D network for video: a convolution over each frame, then one over time, both through the 2-D kernels."""

import torch
from torch import nn

import convkit.nn
from convkit._text import counted
from convkit.models._check import check_positive


class Conv2Plus1d(nn.Module):
    """A 3x3 convolution of each frame, ReLU, and a convolution over three frames at each pixel.

    Takes and returns (N, C, frames, H, W). Its two weights are (mid, in, 3, 3) and (out, mid, 3, 1): frames are images
    of the first, and rows of an image of frames x pixels for the second, which is a view where C is the densest.
    """

    def __init__(self, in_channels, out_channels, layers):
        super().__init__()
        self.spatial = layers.Conv2d(in_channels, out_channels, 3, padding=1)
        self.relu = layers.ReLU()
        self.temporal = layers.Conv2d(out_channels, out_channels, (3, 1), padding=(1, 0))

    def forward(self, input):
        frames, size = input.shape[2], input.shape[3:]
        features = self.relu(self.spatial(to_images(input)))
        features = self.temporal(to_clips(features, frames).flatten(3))
        return features.unflatten(3, size)


def to_images(clips):
    """(N, C, frames, H, W) to (N * frames, C, H, W)."""
    return clips.transpose(1, 2).flatten(0, 1)


def to_clips(images, frames):
    """(N * frames, C, H, W) to (N, C, frames, H, W)."""
    return images.unflatten(0, (-1, frames)).transpose(1, 2)


class VideoCNN(nn.Module):
    """Blocks of :class:`Conv2Plus1d`, ReLU and a 2x2 max-pooling of each frame; the mean over time and pixels; one
    dense layer."""

    def __init__(self, in_channels, num_classes, widths, input_size, layers):
        super().__init__()
        self.input_size = (in_channels, *input_size)
        self.blocks = nn.ModuleList()
        for inputs, outputs in zip([in_channels, *widths], widths, strict=False):
            self.blocks.append(Conv2Plus1d(inputs, outputs, layers))
        self.relu, self.pool = layers.ReLU(), layers.MaxPool2d(2)
        self.fc = layers.Linear(widths[-1], num_classes)

    def forward(self, input):
        features, frames = input, input.shape[2]
        for block in self.blocks:
            features = to_clips(self.pool(self.relu(to_images(block(features)))), frames)
        return self.fc(torch.mean(features, (2, 3, 4)))


def video_cnn(in_channels=1, num_classes=4, input_size=(8, 16, 16), *, widths=(16, 32), layers=convkit.nn):
    """A small (2+1)D network (Tran et al. 2018) that sees motion.

    Args:
        in_channels: 1 for grey clips, 3 for colour.
        num_classes: number of logits.
        input_size: frames, height and width of the clips; others fit too, this is what ``summary`` takes.
        widths: channels of each block.
        layers: namespace with ``Conv2d``, ``ReLU``, ``MaxPool2d`` and ``Linear``; ``torch.nn`` gives the same network,
            with the same state_dict.

    Returns:
        :class:`VideoCNN`, from (N, in_channels, frames, H, W) to (N, num_classes).
    """
    check_positive("video_cnn", in_channels=in_channels, num_classes=num_classes)
    smallest = 2 ** len(widths)
    if not widths or min(input_size[1:]) < smallest:
        raise ValueError(
            f"video_cnn: with {counted(len(widths), 'block')} frames must have at least {smallest} x {smallest} "
            f"pixels, but got input_size={tuple(input_size)}"
        )
    return VideoCNN(in_channels, num_classes, tuple(widths), tuple(input_size), layers)
