"""The commands that train and use models, a module for each: ``DESCRIPTION`` and ``EPILOG`` of its help,
``add_arguments(parser)``, and ``main(arguments)``, where its imports are. A new command is a line here."""

from convkit.commands import evaluate, lecture, models, predict, train

COMMANDS = {
    "train": (train, "train a model on a data set, a CSV file or a folder of images"),
    "evaluate": (evaluate, "score a trained model: accuracy, top-5, confusion matrix"),
    "predict": (predict, "classify images: the five likeliest classes, and the time; or rows of a table"),
    "lecture": (lecture, "the lecture's examples and exercises, computed and drawn"),
    "models": (models, "the networks, and every layer of one"),
}
