"""Images of pink noise."""

import numpy as np
import torch
from torch import Tensor


def pink_noise(samples: int, channels: int = 3, size: int = 32, seed: int = 0) -> Tensor:
    """Images whose power falls with the square of the frequency, as photographs' does; mean 0, deviation 1 each."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size))
    frequency[0, 0] = np.inf
    white = np.fft.rfft2(rng.normal(size=(samples, channels, size, size)))
    images = np.fft.irfft2(white / frequency, s=(size, size))
    images /= images.std(axis=(1, 2, 3), keepdims=True)
    return torch.from_numpy(images.astype(np.float32))
