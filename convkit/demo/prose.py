"""The words of the report; the names in braces are filled in by report.py and chapters.py."""

TITLE = "convkit on this machine"

INTRODUCTION = """\
A convolutional network reads an image by sliding small filters over it. Almost all of its time goes into that sliding
(<em>convolution</em>) and into the two steps that follow it: dropping negative numbers (<em>ReLU</em>) and keeping the
largest number of each small window (<em>max-pooling</em>). convkit computes these steps for PyTorch with code of its
own. This page was written by <code>convkit demo</code> on this machine, and every number on it was measured or
computed just now: first a convolution small enough to follow by hand, then two networks that learn, then the speed of
each step."""

BY_HAND = """\
A 5x5 picture of a cat's ear, and two 3x3 filters that answer to its two slopes. Lay a filter on the picture, multiply
what lies on top of each other, add the nine products: that is one number of the map. Outside, the picture counts as 0.
ReLU makes negative numbers 0; max-pooling keeps the largest of each 2x2 window. Blue is positive, red is negative."""

MISPRINT = """\
The framed {correct} is {printed} in the lecture. Its own picture gives {correct}: the window holds {correct} and three
negative numbers. The lecture computes on with {printed}, so here is the second layer from both. The answer stays the
same: one positive cell, and a neuron that looks for one."""

WINE = """\
{samples} Italian wines, {features} chemical measurements of each, {classes} grape varieties. The lecture's network
{network} learns on 70 % of them and is asked about the rest. Both rows come from the same {splits} random splits; the
spread (standard deviation) shows how much luck there is in a single one."""

WINE_PARAMETERS = """\
Parameters: the lecture counts {lecture}, which leaves out the output layer; the whole network has {whole}."""

DIGITS = """\
{source}. This run uses {used:,} and keeps {tests:,} of these for the test. Two blocks of convolution, ReLU and pooling,
then one dense layer. The same network is trained on convkit's layers and on PyTorch's own (in both of its memory
layouts), from the same first weights and on the same batches, so any difference is the layers'."""

DIGITS_MEASURED = """\
Seconds: median over the epochs, which take turns, on {threads} threads. Memory, of one step on {batch} images:
<em>saved</em> is what autograd keeps from forward to backward besides weights and batch; <em>peak</em> is how far the
step raises the resident memory of a process of its own."""

TIMINGS = """\
The same call on the same data, one image, float32, {threads} threads. Rounds take turns; the time is the median (below
it the 20 % and 80 % quantiles). Above 1.00x convkit is faster; calls that it loses are in red. The error is the largest
difference from the same call in float64."""
