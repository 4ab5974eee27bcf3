"""Tables: those inside scikit-learn, and CSV files. Features are scaled by the training part's mean and spread."""

import csv
import math
import re
from pathlib import Path

import numpy as np
import torch

from convkit.data.dataset import Data, split, tensors

MOST_CLASSES = 20  # integers with more different values than this are taken for a regression
MOST_CATEGORIES = 50
MOSTLY = 0.5  # a column with a larger share of numbers than this holds no categories
DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")
MISSING = {"", "na", "n/a", "nan", "null", "none", "?"}


def _scaler(values):
    """(mean, spread) of each column; a constant column keeps its zeros."""
    spread = values.std(0)
    return values.mean(0), np.where(spread > 0, spread, 1.0)


def _data(name, columns, targets, classes, options, notes=()):
    """Split, scale by the training part alone, and wrap; a regression's targets are scaled too.

    Args:
        columns: name -> values of each feature.
    """
    features = np.stack(list(columns.values()), axis=1)
    parts = split(targets if classes else len(targets), options, test=0.3, valid=0.0)
    missing = np.isnan(features)
    if missing.any():
        medians = [
            np.median(column[~absent]) if not absent.all() else 0.0
            for column, absent in zip(features[parts[0]].T, missing[parts[0]].T, strict=True)
        ]
        features = np.where(missing, medians, features)
    mean, scale = _scaler(features[parts[0]])
    preprocessing = {"kind": "table", "columns": list(columns), "mean": mean.tolist(), "scale": scale.tolist()}
    if classes:
        answers = torch.from_numpy(np.asarray(targets, np.int64))
    else:
        middle, spread = _scaler(targets[parts[0]])
        preprocessing |= {"target_mean": float(middle), "target_scale": float(spread)}
        answers = torch.from_numpy(((targets - middle) / spread).astype(np.float32))[:, None]
    inputs = torch.from_numpy(((features - mean) / scale).astype(np.float32))
    train, valid, test = (tensors(inputs, answers, part) for part in parts)
    return Data(name, train, valid, test, tuple(classes), (features.shape[1],), preprocessing, tuple(notes))


def from_sklearn(name, loader, options):
    """A data set inside scikit-learn, by the name of its loader."""
    from sklearn import datasets

    found = getattr(datasets, loader)()
    classes = [str(c) for c in getattr(found, "target_names", [])]
    columns = dict(zip(map(str, found.feature_names), found.data.T, strict=True))
    return _data(name, columns, found.target, classes, options)


def _read(path):
    """(header, rows of texts) of a CSV file with any of the usual delimiters; decimal commas become points where the
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
            raise ValueError(f"{path}, line {reader.line_num}: {len(row)} fields, but the header names {len(header)}")
        if row:
            rows.append([_pointed(field.strip(), dialect.delimiter) for field in row])
    if len(header) < 2 or len(rows) < 2:
        raise ValueError(f"{path}: a table needs a header, two columns and two rows of data")
    if all(_number(_pointed(name, dialect.delimiter)) is not None for name in header):
        raise ValueError(f"{path}: a table needs a header, but its first line holds numbers: {', '.join(header)}")
    if len(set(header)) < len(header):
        raise ValueError(f"{path}: two columns have one name: {', '.join(header)}")
    return header, rows


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


def _columns(path, name, texts):
    """([(name, values)], note or None): the features that a column makes, itself or one for each of its texts."""
    numbers = [_number(text) for text in texts]
    if None not in numbers:
        values = np.array(numbers)
        missing = np.isnan(values)
        if missing.all():
            return [], f"column {name} is empty: left out"
        if missing.any():
            return [(name, values)], f"column {name}: {missing.sum()} missing values, taken for the median"
        return [(name, values)], None
    row = numbers.index(None)
    if sum(number is not None and not math.isnan(number) for number in numbers) > MOSTLY * len(numbers):
        raise ValueError(f"{path}: column {name} holds numbers, but {texts[row]!r} in row {row + 1} of the data")
    categories = sorted(set(texts))
    if len(categories) > MOST_CATEGORIES:
        raise ValueError(
            f"{path}: column {name} holds {len(categories)} different texts, such as {texts[row]!r}; features are "
            f"numbers, or at most {MOST_CATEGORIES} texts: remove the column"
        )
    features = [(f"{name}={c}", np.array([text == c for text in texts], float)) for c in categories]
    return features, f"column {name}: one feature for each of its {len(categories)} texts"


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
    header, rows = _read(path)
    target = options.target or header[-1]
    if target not in header:
        raise ValueError(f"{path}: there is no column {target!r}; there are {', '.join(header)}")
    texts = {name: [row[i] for row in rows] for i, name in enumerate(header)}
    targets, classes = _targets(path, target, texts.pop(target), options.task)
    found = [_columns(path, name, column) for name, column in texts.items()]
    columns = {column: values for made, _ in found for column, values in made}
    if not columns:
        raise ValueError(f"{path}: no column beside the target {target} holds a value")
    return _data(str(path), columns, targets, classes, options, [note for _, note in found if note])
