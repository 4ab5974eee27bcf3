"""The words of the report; the names in braces are filled in by report.py and chapters.py."""

TITLE = "convkit on this machine"

INTRODUCTION = """\
A convolutional network reads an image by sliding small filters over it. Almost all of its time goes into that sliding
(<em>convolution</em>) and into the two steps that follow it: dropping negative numbers (<em>ReLU</em>) and keeping the
largest number of each small window (<em>max-pooling</em>). convkit computes these steps for PyTorch with code of its
own. This page was written by <code>convkit demo</code> on this machine, and every number on it was measured or
computed just now: first a convolution small enough to follow by hand, then two networks that learn, then the speed of
each step."""

DIGITS = """\
{source}. This run uses {used:,} and keeps {tests:,} of these for the test. Two blocks of convolution, ReLU and pooling,
then one dense layer. The same network is trained on convkit's layers and on PyTorch's own (in both of its memory
layouts), from the same first weights and on the same batches, so any difference is the layers'."""

DIGITS_MEASURED = """\
Seconds: median over the epochs, which take turns, on {threads}. Memory, of one step on {batch} images:
<em>saved</em> is what autograd keeps from forward to backward besides weights and batch; <em>peak</em> is how far the
step raises the resident memory of a process of its own."""

TIMINGS = """\
The same call on the same data, one image, float32, {threads}. Rounds take turns; the time is the median (below it
the 20 % and 80 % quantiles). Above 1.00x convkit is faster; calls that it loses are in red. The error is the largest
difference from the same call in float64."""
