"""The words of the lecture's report in English; portuguese.py has the same names and places in braces."""

from convkit.data.dataset import NOTES as NOTES
from convkit.models.mlp import REASONS as REASONS

LANGUAGE = "en"
DECIMAL = "."  # separator of fractions; thousands have the other one
PAGE = "Neural networks: the lecture's examples, computed"
INTRODUCTION = """\
Every example and exercise of an introduction to multi-layer perceptrons (MLP) and convolutional networks (CNN), run on
convkit's own convolution, ReLU, pooling and linear layers. All numbers on this page were computed on this machine just
now; figures that others published are marked as such."""

TITLES = {
    "wine": "A network by the rule of thumb: Wine",
    "ear": "A convolution by hand: the cat's ear",
    "parameters": "Why not an MLP on images: parameters",
    "invariance": "Why not an MLP on images: invariance",
    "ilsvrc": "Networks for ILSVRC 2012",
    "table": "Exercise 1: a table, a network, scikit-learn beside it",
    "filters": "Exercise 2: filters that detect a pattern",
    "denoise": "Where CNNs are used: taking noise out of pictures",
    "machine": "The machine",
}

# The Wine example and exercise 1
WINE = """\
178 Italian wines, 13 chemical measurements of each, 3 grape varieties. The network learns on 70 % of them and is asked
about the rest. Both rows come from the same {splits} random splits; the standard deviation shows how much luck there is
in a single one. Both networks learn at the rate {rate:g}; the lecture's listing leaves it at scikit-learn's
{default:g}, which needs more epochs."""
TABLE = """\
{source}: {samples:,} samples, {features} features, {outputs}. The rule of thumb proposes the network, which learns
beside scikit-learn's own of the same shape and learning rate, {rate:g}, on {splits} random splits of 70 % for training
and 30 % for the test."""
CLASSES, ONE_VALUE = "{count} classes", "one value to predict"
RULE = "The rule of thumb: {network}"
LECTURE_COUNT = """\
Parameters: the lecture counts {lecture}, which leaves out the output layer; the whole network has {whole}."""
SCORES = ["network", "mean", "standard deviation", "minimum", "maximum"]
ACCURACY, R2 = "Accuracy on the test part.", "R² on the test part: 1 is perfect, 0 as good as the mean."
POINTS = "{value:.1f} points"

# The cat's ear
BY_HAND = """\
A 5x5 picture of a cat's ear, and two 3x3 filters that answer to its two slopes. Lay a filter on the picture, multiply
what lies on top of each other, add the nine products: that is one number of the map. Outside, the picture counts as 0
(zero padding 1). ReLU makes negative numbers 0; max-pooling keeps the largest of each 2x2 window, also of those that
hang over the edge. Blue is positive, red is negative."""
ONE_CELL = "One number of the map: row {row}, column {column}"
FILTERS = ["Filter 1: the rising slope", "Filter 2: the falling slope"]
MISPRINT = """\
The framed {correct} is {printed} in the lecture. Its own picture gives {correct}: the window holds {correct} and three
negative numbers. The lecture computes on with {printed}, so here is the second layer from both. The answer stays the
same."""
SECOND_LAYER = "Second layer: one filter over both channels"
CLASSIFICATION = """\
The classification layer: ReLU leaves one positive number in the last map. A dense layer adds the map up and takes off
{threshold}; softmax makes probabilities of that score and of 0, which stands for "no ear"."""
VERDICTS = {True: "there is a cat's ear in the image", False: "no cat's ear in the image"}
SCORE = "score {score:+g}: {verdict}, {probability}"
AS_PRINTED, CORRECT = "as printed", "correct"
UPSIDE_DOWN = "The same network on other pictures, with its probability of an ear: {answers}."
OTHERS = ["the ear upside down", "the ear on its side", "an even picture"]
STRIDES = "Stride: how far the filter moves each time"
STRIDE = "stride {stride}: {height}x{width}"
MAPS = {
    "image": "image",
    "filter": "filter {number}",
    "convolution": "convolution",
    "relu": "ReLU",
    "pooled": "max-pooling",
    "window": "window",
    "products": "window times filter",
    "sum": "their sum",
    "channel": "channel {number}",
    "pooled_channel": "channel {number}, {version}",
    "second_filter": "filter on channel {number}",
    "map": "map",
}

# Parameters
PARAMETERS = """\
A dense layer joins every pixel with every neuron: its parameters grow with the image. A convolution has the same few
wherever it lies: this network's {convolutions:,} do not depend on the image; only its dense layer at the end does.
Colour images, ten classes. Each 2x2 max-pooling also divides the number of values by 4."""
PARAMETERS_TABLE = ["image", "inputs", "MLP, rule of thumb", "MLP, 100 neurons", "CNN", "of which convolutions"]
PARAMETERS_CHART = ("image width in pixels", "parameters")
PARAMETERS_SERIES = ["MLP, rule of thumb", "MLP, 100 neurons", "CNN"]

# Invariance
INVARIANCE = """\
Three networks learn {samples:,} handwritten digits as they are, then read {tests:,} others that were translated,
rotated or scaled. None has seen such digits. Nothing is invariant by itself; under translation max-pooling should help,
as a maximum stays the same when what caused it moves within its window. Here, 3 pixels cost the {network} the least
accuracy: {lost:.1f} points."""
NETWORKS = {"mlp": "MLP", "cnn": "CNN without max-pooling", "cnn_pooled": "CNN with max-pooling"}
EXPERIMENTS = {
    "translation": ("translation", "pixels, mean of four directions"),
    "rotation": ("rotation", "degrees, mean of both directions"),
    "scale": ("scale", "factor"),
}
INVARIANCE_TABLE = ["network", "parameters", "as they are", "translation 3 pixels", "rotation 30 degrees", "scale 0.7"]
ACCURACY_AXIS = "accuracy, %"

# ILSVRC
ILSVRC = """\
ImageNet's challenge of 2012: 1000 classes, 1.2 million training images, 150 thousand test images. The first table is
quoted as published (Keras' documentation; its times are of other machines, 32 images a step). Accuracies are not
measured here: that takes the data set and trained weights, neither of which ships with convkit. VGG's weights load as
torchvision names them, Xception's as timm does."""
PUBLISHED = "As published"
PUBLISHED_TABLE = [
    "network", "size, MB", "top-1", "top-5", "parameters", "depth", "ms per step, CPU", "ms per step, GPU"
]  # fmt: skip
OURS = "Ours, on {machine}"
OURS_TABLE = [
    "network",
    "size, MB",
    "parameters",
    "GFLOPs",
    "batch",
    "convkit, ms",
    "torch, ms",
    "torch / convkit",
    "Keras, ms",
]
OURS_NOTE = """\
{threads}, float32, random weights; the median, each side in the better of its two memory formats;
<code>convkit.optimize</code> beside <code>torch.nn</code> in evaluation mode, logits equal to {error:.0e}. Keras:
{keras}. Xception's {statistics:,} running means and variances count as parameters in the lecture."""
ABSENT = "not installed"
ROUGH = "These times are rough: --quick measures each for a fraction of a second."

# Exercise 2
DETECTOR = """\
A chain that detects a pattern and nothing else. The first filter takes the grey away. Each filter of the second layer
knows one 3x3 part of the pattern: +1 where it is on, -1 where it is off, and a bias so that only the whole part stays
above 0. The last filter asks for all parts in their places."""
SCENE = "the picture: one ear among things like it"
PARTS, PART_MAPS, ANSWER = "the filters for the parts", "where each part is found", "the answer: {count} place fires"
SHAPES = {
    "ear": "the ear",
    "upside_down": "upside down",
    "broken": "one pixel missing",
    "filled": "one pixel more",
    "cross": "a cross",
    "sideways": "on its side",
}
SHAPES_TABLE = ["shape", "row", "column", "last map"]
ALONE = "On the ear by itself, number by number"
CHAIN = "The chain of {path}, step by step"
STEPS = {"image": "image", "convolution": "convolution", "ReLU": "ReLU", "max-pooling": "max-pooling"}
STEP_CHANNEL = "{step}, channel {channel}"

# Denoising
DENOISE = """\
A small CNN ({parameters:,} parameters) learns to estimate the noise in {count:,} patches of photographs that come with
scikit-image, then cleans two photographs of which it has seen nothing. PSNR measures how close a picture is to the
clean one, in dB: 3 dB more is half the squared error. The blur is the best of six Gaussian ones."""
PICTURES = ["clean", "with noise, {psnr:.1f} dB", "cleaned by the CNN, {psnr:.1f} dB"]
DENOISE_TABLE = ["photograph", "with noise, dB", "best blur, dB", "CNN, dB"]

MACHINE = ["processor", "instruction set", "threads", "versions", "this run"]
RUN = "{date}, {seconds:.0f} s{quick}; all seeds are fixed"
