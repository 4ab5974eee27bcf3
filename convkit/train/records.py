"""What a run tells: metrics.csv, curves.png, confusion.png, TensorBoard."""

import csv

from convkit.train.checkpoint import replace_file


def write_csv(path, history):
    """A line for each epoch; the columns are the keys of the first one."""

    def write(temporary):
        with open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, history[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(history)

    replace_file(path, write)


def _figure(columns, height=3.6, width=4.8):
    from matplotlib.figure import Figure  # without pyplot: no display, no global state

    figure = Figure(figsize=(width * columns, height), layout="constrained")
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def write_curves(path, history):
    """Loss over the epochs, and beside it accuracy, or R² of a regression."""
    epochs = [row["epoch"] for row in history]
    score = next((name for name in ("valid_accuracy", "valid_r2") if name in history[0]), None)
    figure, axes = _figure(2 if score else 1)
    for name, label in (("train_loss", "training"), ("valid_loss", "validation")):
        if name in history[0]:
            axes[0].plot(epochs, [row[name] for row in history], ".-", label=label)
    axes[0].set(xlabel="epoch", ylabel="loss")
    axes[0].legend()
    if score:
        axes[1].plot(epochs, [row[score] for row in history], ".-", color="C1", label="validation")
        axes[1].set(xlabel="epoch", ylabel="accuracy" if score == "valid_accuracy" else "R²")
        axes[1].legend()
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.xaxis.get_major_locator().set_params(integer=True)
    replace_file(path, lambda temporary: figure.savefig(temporary, format="png", dpi=120))


def write_confusion(path, confusion, classes):
    """The confusion matrix as a picture: a row for each true class, in shares of that class."""
    shares = (confusion.double() / confusion.sum(1, keepdim=True).clamp(min=1)).tolist()
    side = max(3.2, 0.36 * len(classes) + 1.6)
    figure, [axis] = _figure(1, side, side)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axis.set(xlabel="predicted class", ylabel="true class")
    if len(classes) <= 30:
        places = range(len(classes))
        axis.set_xticks(places, classes, rotation=90)
        axis.set_yticks(places, classes)
        for i, j in ((i, j) for i in places for j in places if confusion[i, j]):
            colour = "white" if shares[i][j] > 0.5 else "black"
            axis.text(j, i, str(confusion[i, j].item()), ha="center", va="center", color=colour, fontsize=8)
    replace_file(path, lambda temporary: figure.savefig(temporary, format="png", dpi=120))


class TensorBoard:
    """Event files for TensorBoard; what an earlier run wrote behind ``first_step`` is taken back."""

    def __init__(self, directory, first_step):
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(directory, purge_step=first_step + 1)

    def write(self, row, step):
        for name, value in row.items():
            if name != "epoch":
                self.writer.add_scalar(name.replace("_", "/", 1), value, step)
        self.writer.flush()
