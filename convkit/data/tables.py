"""Tables: those inside scikit-learn, and CSV files. Missing numbers become the training part's median, and features are
scaled by its mean and spread; a run keeps these numbers, so that other rows can be read in the same way."""

import csv
import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import TensorDataset

from convkit._text import counted
from convkit.data.dataset import Data, Note, split, tensors

MOST_CLASSES = 20  # integers with more different values than this are taken for a regression
MOST_CATEGORIES = 50
MOSTLY = 0.5  # a column with a larger share of numbers than this holds no categories
DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")
MISSING = {"", "na", "n/a", "nan", "null", "none", "?"}


def _scaler(values):
    """(mean, spread) of each column; a constant column keeps its zeros."""
    spread = values.std(0)
    return values.mean(0), np.where(spread > 0, spread, 1.0)


@dataclass(frozen=True)
class _Table:
    """What was read.

    Attributes:
        fields: column -> its texts, each of which is a feature, or None where it holds numbers.
        features: name -> values; NaN where one is missing.
        target: name of the column to predict.
        targets: class numbers or values.
        classes: names; empty for a regression.
    """

    name: str
    fields: dict
    features: dict
    target: str
    targets: np.ndarray
    classes: tuple[str, ...]
    notes: tuple[Note, ...] = ()


def _data(table, options):
    """Split, fill in and scale by the training part alone, and wrap; a regression's targets are scaled too."""
    features = np.stack(list(table.features.values()), axis=1)
    parts = split(table.targets if table.classes else len(table.targets), options, test=0.3, valid=0.0)
    seen = features[parts[0]]
    medians = np.array(
        [np.median(column[~np.isnan(column)]) if not np.isnan(column).all() else 0.0 for column in seen.T]
    )
    mean, scale = _scaler(np.where(np.isnan(seen), medians, seen))
    preprocessing = {"kind": "table", "target": table.target, "fields": table.fields, "columns": list(table.features)}
    preprocessing |= {"medians": medians.tolist(), "mean": mean.tolist(), "scale": scale.tolist()}
    if not table.classes:
        middle, spread = _scaler(table.targets[parts[0]])
        preprocessing |= {"target_mean": float(middle), "target_scale": float(spread)}
    inputs, answers = _scaled(features, preprocessing), _answers(table.targets, preprocessing)
    train, valid, test = (tensors(inputs, answers, part) for part in parts)
    size = (features.shape[1],)
    return Data(table.name, train, valid, test, table.classes, size, preprocessing, table.notes)


def _scaled(features, preprocessing):
    medians, mean, scale = (np.array(preprocessing[name]) for name in ("medians", "mean", "scale"))
    filled = np.where(np.isnan(features), medians, features)
    return torch.from_numpy(((filled - mean) / scale).astype(np.float32))


def _answers(targets, preprocessing):
    """Class numbers (N,), or scaled values (N, 1)."""
    if "target_scale" not in preprocessing:
        return torch.from_numpy(np.asarray(targets, np.int64))
    scaled = (targets - preprocessing["target_mean"]) / preprocessing["target_scale"]
    return torch.from_numpy(scaled.astype(np.float32))[:, None]


def from_sklearn(name, loader, options):
    """A data set inside scikit-learn, by the name of its loader."""
    from sklearn import datasets

    found = getattr(datasets, loader)()
    classes = tuple(str(c) for c in getattr(found, "target_names", []))
    features = dict(zip(map(str, found.feature_names), found.data.T, strict=True))
    return _data(_Table(name, dict.fromkeys(features), features, "target", found.target, classes), options)


def _read(path, least_rows=2):
    """column -> its texts, of a CSV file with any of the usual delimiters; decimal commas become points where the
    delimiter is another."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: no text in UTF-8: {error.reason} at byte {error.start}") from error
    lines = text.splitlines()
    try:
        dialect = csv.Sniffer().sniff("\n".join(lines[:20]), ",;\t|")
    except csv.Error:
        dialect = csv.excel
    reader = csv.reader(lines, dialect)
    header = [column.strip() for column in next(reader, [])]
    rows = []
    for row in reader:
        if row and len(row) != len(header):
            raise ValueError(
                f"{path}, line {reader.line_num}: {counted(len(row), 'field')}, but the header names {len(header)}"
            )
        if row:
            rows.append([_pointed(field.strip(), dialect.delimiter) for field in row])
    if len(header) < 2 or len(rows) < least_rows:
        count = ("one row", "two rows")[least_rows - 1]
        raise ValueError(f"{path}: a table needs a header, two columns and {count} of data")
    if all(_number(_pointed(name, dialect.delimiter)) is not None for name in header):
        raise ValueError(f"{path}: a table needs a header, but its first line holds numbers: {', '.join(header)}")
    if len(set(header)) < len(header):
        raise ValueError(f"{path}: two columns have one name: {', '.join(header)}")
    return {name: [row[i] for row in rows] for i, name in enumerate(header)}


def _pointed(text, delimiter):
    return text.replace(",", ".") if delimiter != "," and DECIMAL_COMMA.fullmatch(text) else text


def _number(text):
    """The number in a field; NaN where it is missing; None for a text."""
    if text.lower() in MISSING:
        return math.nan
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _texts(path, name, texts):
    """The texts that a column makes features of; None where it holds numbers, an empty list where nothing."""
    numbers = [_number(text) for text in texts]
    if None not in numbers:
        return [] if all(map(math.isnan, numbers)) else None
    row = numbers.index(None)
    if sum(number is not None and not math.isnan(number) for number in numbers) > MOSTLY * len(numbers):
        raise ValueError(f"{path}: column {name} holds numbers, but {texts[row]!r} in row {row + 1} of the data")
    categories = sorted(set(texts))
    if len(categories) > MOST_CATEGORIES:
        raise ValueError(
            f"{path}: column {name} holds {len(categories)} different texts, such as {texts[row]!r}; features are "
            f"numbers, or at most {MOST_CATEGORIES} texts: remove the column"
        )
    return categories


def _features(path, name, texts, categories):
    """(name -> values, notes): the features that a column makes, itself or one for each of ``categories``."""
    if categories is not None:
        unknown = sum(text not in categories for text in texts)
        note = Note("unknown", {"name": name, "count": unknown, "known": ", ".join(categories)})
        features = {f"{name}={c}": np.array([text == c for text in texts], float) for c in categories}
        return features, [note] if unknown else []
    numbers = [_number(text) for text in texts]
    if None in numbers:
        row = numbers.index(None)
        raise ValueError(f"{path}: column {name} holds numbers, but {texts[row]!r} in row {row + 1} of the data")
    missing = sum(map(math.isnan, numbers))
    note = Note("missing", {"name": name, "count": missing})
    return {name: np.array(numbers)}, [note] if missing else []


def _targets(path, name, texts, task):
    """(values, class names or ())."""
    numbers = [_number(text) for text in texts]
    if any(number is not None and math.isnan(number) for number in numbers):
        row = next(i for i, number in enumerate(numbers) if number is not None and math.isnan(number))
        raise ValueError(f"{path}: the target {name} is missing in row {row + 1} of the data")
    whole = None not in numbers and all(number == int(number) for number in numbers)
    if task is None:
        few = whole and len(set(numbers)) <= MOST_CLASSES
        task = "classification" if None in numbers or few else "regression"
    if task == "regression":
        if None in numbers:
            text = texts[numbers.index(None)]
            raise ValueError(f"{path}: a regression needs numbers, but the target {name} has {text!r}")
        return np.array(numbers), ()
    if whole:
        texts = [str(int(number)) for number in numbers]  # 1 and 1.0 are one class
    classes = sorted(set(texts), key=(lambda text: (float(text), text)) if None not in numbers else None)
    if len(classes) < 2:
        raise ValueError(f"{path}: the target {name} has one class only: {classes[0]!r}")
    rarest = min(classes, key=texts.count)
    if texts.count(rarest) < 2:
        raise ValueError(f"{path}: class {rarest!r} of the target {name} has one sample; a split needs two of each")
    return np.array([classes.index(text) for text in texts]), tuple(classes)


def from_csv(path, options):
    """A CSV file with a header: numbers, or columns of a few texts; missing numbers are filled with the median.

    Raises:
        ValueError: no header, a text among numbers, or what else is no table, with the column and the row.
    """
    columns = _read(path)
    target = options.target or list(columns)[-1]
    if target not in columns:
        raise ValueError(f"{path}: there is no column {target!r}; there are {', '.join(columns)}")
    targets, classes = _targets(path, target, columns.pop(target), options.task)
    fields, features, notes = {}, {}, []
    for name, texts in columns.items():
        categories = _texts(path, name, texts)
        if categories == []:
            notes.append(Note("empty", {"name": name}))
            continue
        if categories:
            notes.append(Note("texts", {"name": name, "count": len(categories)}))
        made, more = _features(path, name, texts, categories)
        fields[name], features, notes = categories, features | made, notes + more
    if not features:
        raise ValueError(f"{path}: no column beside the target {target} holds a value")
    return _data(_Table(str(path), fields, features, target, targets, classes, tuple(notes)), options)


def read_rows(path, preprocessing):
    """The rows of a CSV file as a run reads them, with its medians, means and spreads.

    Args:
        preprocessing: the run's, as :class:`convkit.data.Data` has it. Its columns are looked up by name; the file may
            have others too.

    Returns:
        (inputs (rows, features) float32, texts of the target's column or None, notes).
    """
    columns = _read(path, least_rows=1)
    features, notes = {}, []
    for name, categories in preprocessing["fields"].items():
        if name not in columns:
            raise ValueError(
                f"{path}: there is no column {name!r}, which the model was trained on; there are {', '.join(columns)}"
            )
        made, more = _features(path, name, columns[name], categories)
        features, notes = features | made, notes + more
    inputs = _scaled(np.stack(list(features.values()), axis=1), preprocessing)
    return inputs, columns.get(preprocessing["target"]), notes


def _in_classes(text, classes):
    """The number of the class that ``text`` names, None for none; 1.0 names the class 1."""
    number = _number(text)
    if text not in classes and number is not None and number == number // 1:
        text = str(int(number))
    return classes.index(text) if text in classes else None


def from_rows(path, preprocessing, classes):
    """All rows of a CSV file with a run's target, to score the run on: :class:`Data` without other parts than the test.

    Args:
        preprocessing: as :func:`read_rows` takes it.
        classes: the run's.
    """
    inputs, texts, notes = read_rows(path, preprocessing)
    target = preprocessing["target"]
    if texts is None:
        raise ValueError(f"{path}: there is no column {target!r}, the target of the model")
    names = [_in_classes(text, classes) if classes else _number(text) for text in texts]
    wrong = next((row for row, name in enumerate(names) if name is None or name != name), None)
    if wrong is not None:
        known = f"one of {', '.join(classes)}" if classes else "a number"
        raise ValueError(
            f"{path}: the target {target} must be {known}, but row {wrong + 1} of the data has {texts[wrong]!r}"
        )
    test = TensorDataset(inputs, _answers(np.array(names), preprocessing))
    return Data(str(path), None, None, test, tuple(classes), (inputs.shape[1],), preprocessing, tuple(notes))
