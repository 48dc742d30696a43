"""What the speech tasks share: features, labels of frames, normalisation."""

from collections.abc import Sequence
from importlib import metadata
from typing import Any

import numpy as np

from search.errors import UserError
from search.tasks.task import SPLITS, Split

RATE = 16_000  # samples per second
WINDOW = 400  # samples: 25 ms
STRIDE = 160  # samples: 10 ms
N_FEATURES = 39
RECIPE = 1  # one more whenever the same signal would give other features: older caches are then rebuilt

_MEL_BANDS = 26  # as many as HTK has by default
_LEAST_POWER = 1e-10  # what power is raised to before its logarithm: below the step of 16 bits

Utterance = tuple[np.ndarray, np.ndarray]


def needed_version(package: str, task: str, command: str) -> str:
    """The version of a package, without importing it.

    Raises:
        UserError: it is not installed; the text names `command`, which installs it.
    """
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        raise UserError(f"task={task}: expected the package {package}; {command}") from None


def features(signal: np.ndarray, rate: int = RATE) -> np.ndarray:
    """The input of Greff et al. 2015, section IV: 12 MFCCs and the log energy, with first and second differences.

    A frame every 10 ms, from Hamming windows of 25 ms that all lie within the signal; pre-emphasis 0.97. The zeroth
    cepstral coefficient is left out, the energy stands for it. The energy is that of the signal before pre-emphasis.
    Differences are the slope of a line through five frames.

    Args:
        signal: samples from -1 to 1, float [samples], at least one window of them.
        rate: samples per second.

    Returns:
        float32 [T, 39], T = 1 + (samples - window) // stride: 13 values, their slopes, and the slopes of these.
    """
    import librosa  # which needs seconds to load

    window, stride = round(0.025 * rate), round(0.010 * rate)
    signal = np.asarray(signal, np.float64)
    emphasised = np.append(0.03 * signal[:1], signal[1:] - 0.97 * signal[:-1])
    shape: dict[str, Any] = {"n_fft": window, "hop_length": stride, "window": "hamming", "center": False}
    power = librosa.feature.melspectrogram(y=emphasised, sr=rate, n_mels=_MEL_BANDS, htk=True, **shape)
    decibels = librosa.power_to_db(power, amin=_LEAST_POWER, top_db=None)
    cepstrum = librosa.feature.mfcc(S=decibels, sr=rate, n_mfcc=13)[1:]
    energy = (np.lib.stride_tricks.sliding_window_view(signal, window)[::stride] ** 2).sum(axis=1)
    static = np.vstack([cepstrum, np.log(np.maximum(energy, _LEAST_POWER))])
    slope = librosa.feature.delta(static, width=5, mode="nearest")
    return np.vstack([static, slope, librosa.feature.delta(slope, width=5, mode="nearest")]).T.astype(np.float32)


def frame_labels(
    segments: Sequence[tuple[int, int, int]], n_frames: int, window: int = WINDOW, stride: int = STRIDE
) -> np.ndarray:
    """The label of each frame: that of the segment in which the centre of its window lies.

    Args:
        segments: (first sample, sample after the last, label), in the order of their first samples; of two that
            overlap the later one counts.
        n_frames: T.
        window, stride: in samples.

    Returns:
        int32 [T]; -1 where no segment is.
    """
    starts, ends, labels = (np.array([segment[n] for segment in segments], np.int64) for n in range(3))
    centres = np.arange(n_frames) * stride + window // 2
    last = np.searchsorted(starts, centres, side="right") - 1
    inside = (last >= 0) & (centres < ends[last])
    return np.where(inside, labels[last], -1).astype(np.int32)


def normalised(utterances: dict[str, list[Utterance]]) -> dict[str, Split]:
    """Splits whose inputs have mean 0 and standard deviation 1, feature by feature, over the training frames."""
    training = np.concatenate([inputs for inputs, _ in utterances["train"]])
    mean = training.mean(axis=0, dtype=np.float64)
    std = training.std(axis=0, dtype=np.float64)
    std[std == 0] = 1.0
    return {
        name: Split(
            [((inputs - mean) / std).astype(np.float32) for inputs, _ in utterances[name]],
            [targets for _, targets in utterances[name]],
        )
        for name in SPLITS
    }
