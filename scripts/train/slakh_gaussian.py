"""Fit the embedded prior ``slakh_gaussian`` and cut the shipped excerpt, both from a 22.05 kHz Track02098.

    python -m scripts.train.slakh_gaussian Track02098

The folder has bass.wav, drums.wav, guitar.wav and piano.wav. Writes ``assets/slakh/slakh_gaussian.safetensors``, the
power spectral density of each stem by Welch's method (1967, "The use of fast Fourier transform for the estimation
of power spectra") on the samples outside the excerpt, and ``assets/slakh/Track02098_786432.flac``, the excerpt with
four channels. The segment length is the one of 512 to 16384 whose density, from the samples before the excerpt,
separates the samples after it best by the Wiener filter.
"""

import argparse
from pathlib import Path

import numpy as np
import soundfile
import torch
from safetensors.torch import save_file
from scipy.signal import welch

from benchmark_utils.files.slakh import EXCERPT_FIRST, EXCERPT_LENGTH, read_stems
from benchmark_utils.metrics import SAMPLE_RATE, STEMS, si_sdri_all_score
from benchmark_utils.priors.slakh_gaussian import Stationary
from datasets.slakh2100 import LIKELIHOOD_STD

FLOOR = 1e-6  # of a stem's largest value
CHUNK = 2**18


def density(parts, segment):
    """Two-sided density (4, segment // 2 + 1) of white noise 1 for variance 1, pooled over parts (4, length)."""
    options = {"nperseg": segment, "detrend": False, "return_onesided": False}
    estimates = [welch(part, window="hann", **options)[1][:, : segment // 2 + 1] for part in parts]
    pooled = np.average(estimates, axis=0, weights=[part.shape[1] for part in parts])
    return torch.from_numpy(np.maximum(pooled, FLOOR * pooled.max(1, keepdims=True)))


def wiener_score(stems, fitted):
    """Mean SI-SDRi of the Wiener filter with this density on the whole chunks of stems (4, length)."""
    chunks = torch.from_numpy(stems[:, : stems.shape[1] // CHUNK * CHUNK]).unflatten(1, (-1, CHUNK)).movedim(1, 0)
    prior = Stationary(fitted, CHUNK, sigma_max=20.0)
    gain = prior.variance / (prior.variance.sum(0) + LIKELIHOOD_STD**2)
    estimates = prior.filter(chunks.sum(1, keepdim=True), gain)
    return np.mean([si_sdri_all_score(x_hat[None], x).item() for x_hat, x in zip(estimates, chunks, strict=True)])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("track", type=Path)
    parser.add_argument("--out", type=Path, default=Path("assets/slakh"))
    args = parser.parse_args()
    stems = read_stems(args.track).numpy().astype(float)
    last = EXCERPT_FIRST + EXCERPT_LENGTH
    before, excerpt, after = np.split(stems, [EXCERPT_FIRST, last], axis=1)
    scores = {}
    for segment in 2 ** np.arange(9, 15):
        scores[int(segment)] = wiener_score(after, density([before], segment))
        print(f"segments of {segment:5d}: {scores[int(segment)]:.2f} dB SI-SDRi after the excerpt")
    segment = max(scores, key=scores.get)
    fitted = density([before, after], segment)
    rms = fitted.mean(1).sqrt()
    print(f"chosen: {segment}; rms " + ", ".join(f"{name} {value:.4f}" for name, value in zip(STEMS, rms, strict=True)))
    args.out.mkdir(parents=True, exist_ok=True)
    save_file({"density": fitted.float()}, args.out / "slakh_gaussian.safetensors")
    pcm = np.round(excerpt * 2**15).astype(np.int16)
    soundfile.write(args.out / f"Track02098_{EXCERPT_FIRST}.flac", pcm.T, SAMPLE_RATE, subtype="PCM_16")


if __name__ == "__main__":
    main()
