import importlib.util

import soxr
import torch

from benchmark_utils.metrics import SAMPLE_RATE, STEMS
from benchmark_utils.sampler import PosteriorSampler


class Solver(PosteriorSampler):
    """Supervised reference: "Hybrid Transformers for Music Source Separation",
    Rouard, Massa and Defossez, ICASSP 2023, https://arxiv.org/abs/2211.08553

    A network trained on pairs of mixtures and stems of real music. It is no posterior sampler: it uses neither the
    prior nor the noise, so that all its draws are the same, and its stems need not add up to y.

    ``model`` names a model of the optional package ``demucs``, which fetches the weights from the Hugging Face hub
    (``name`` or ``namespace/name``). It must have the four stems: ``htdemucs_6s`` has drums, bass, other, vocals,
    guitar and piano, of which other and vocals are left out; the models of four stems (``htdemucs``) have guitar and
    piano together in other and are refused. It works at 44.1 kHz in stereo: the mixture is resampled and doubled, a
    stem is the mean of its channels, resampled back. The published Demucs on Slakh2100 was trained on Slakh2100
    itself; its weights are not public, and this is not it.
    """

    name = "demucs"
    parameters = {"model": ["htdemucs_6s"]}
    test_config = {"dataset": {"name": "slakh2100"}}
    needs = {"separation"}
    requirements = ["pip::demucs>=4.1"]

    def skip(self, problem, prior, **_):
        skipped, reason = super().skip(problem, prior)
        if not skipped and not has_demucs():
            return True, "demucs needs the package demucs 4.1 or newer: run `pip install 'demucs>=4.1'`"
        return skipped, reason

    def set_objective(self, problem, prior, n_samples, seed, batch_size=None):
        from demucs.api import Separator  # optional

        super().set_objective(problem, prior, n_samples, seed, batch_size)
        try:
            # shifts draw from Python's global generator; hf:// takes safetensors only, never pickled code
            self.separator = Separator(f"hf://{self.model}", device=str(self.device), shifts=0)
        except OSError as error:
            raise FileNotFoundError(f"demucs could not fetch the weights of {self.model}: {error}") from error
        missing = [stem for stem in STEMS if stem not in self.separator.model.sources]
        if missing:
            raise ValueError(f"demucs: {self.model} has no stem {', '.join(missing)}; use htdemucs_6s")

    def sample(self, problem, prior, rng):
        return torch.stack([self.separate(mixture) for mixture in problem.y[:, 0]]).to(problem.y)

    def get_result(self):
        result = super().get_result()
        result["provenance"]["weights"] += f", demucs {self.model}"
        return result

    def separate(self, mixture):
        """The four stems (4, length), float64 on the CPU, of a mixture (length,)."""
        rate, n_channels = self.separator.samplerate, self.separator.audio_channels
        raised = torch.from_numpy(soxr.resample(mixture.double().cpu().numpy(), SAMPLE_RATE, rate, "VHQ"))
        _, found = self.separator.separate_tensor(raised.float().expand(n_channels, -1))
        stems = torch.stack([found[stem].mean(0) for stem in STEMS], 1).double().cpu().numpy()
        return torch.from_numpy(soxr.resample(stems, rate, SAMPLE_RATE, "VHQ").T.copy())


def has_demucs():
    """Whether a ``demucs`` with the programming interface of version 4.1 is installed."""
    return importlib.util.find_spec("demucs") is not None and importlib.util.find_spec("demucs.api") is not None
