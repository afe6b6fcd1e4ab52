import torch

from benchmark_utils.sampler import PosteriorSampler

N_FFT, HOP = 2048, 512


class Solver(PosteriorSampler):
    """Oracle, no competitor: spectral masks of the mixture computed from the true stems.

    "On training targets for supervised speech separation", Wang, Narayanan and Wang, IEEE/ACM TASLP 2014,
    https://doi.org/10.1109/TASLP.2014.2352935. In a short-time Fourier transform (Hann window of 2048 samples, hop
    512) with the true stems S_k and the mixture Y
      x_k = inverse of  |S_k|^p / sum_j |S_j|^p  Y
    ``power`` is p: 1 the ideal ratio mask in its magnitude form, 2 the Wiener-like one. Context, no upper bound: gains
    that know the phase, and methods that make waveforms, can do better. The solver itself returns the mixture and
    names the rule: the objective, which has the truth, applies it and marks the rows.
    """

    name = "oracle_mask"
    parameters = {"power": [1]}
    test_config = {"dataset": {"name": "slakh2100"}}
    needs = {"separation", "truth"}

    def sample(self, problem, prior, rng):
        return problem.y.expand(-1, *prior.event_shape)

    def get_result(self):
        return super().get_result() | {"oracle": self.apply_mask}

    def apply_mask(self, mixture, truth):
        """Stems (..., 4, length) from the mixture, given for each stem, and the true stems of the same shape."""
        power = spectrogram(truth).abs() ** self.power
        mask = power / power.sum(-3, keepdim=True).clamp(min=1e-30)
        return inverse(mask * spectrogram(mixture), mixture.shape[-1])


def spectrogram(signals):
    """Complex spectrogram (..., frequencies, frames) of signals (..., length)."""
    window = torch.hann_window(N_FFT, dtype=signals.dtype)
    found = torch.stft(signals.flatten(0, -2), N_FFT, HOP, window=window, pad_mode="constant", return_complex=True)
    return found.unflatten(0, signals.shape[:-1])


def inverse(coefficients, length):
    """Signals (..., length) of :func:`spectrogram`."""
    window = torch.hann_window(N_FFT, dtype=coefficients.real.dtype)
    signals = torch.istft(coefficients.flatten(0, -3), N_FFT, HOP, window=window, length=length)
    return signals.unflatten(0, coefficients.shape[:-2])
