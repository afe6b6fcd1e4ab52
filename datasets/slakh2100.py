import torch
from benchopt import BaseDataset

from benchmark_utils.files.paths import files_state, own_path
from benchmark_utils.files.slakh import number_range, read_mixtures, read_tracks
from benchmark_utils.metrics import STEMS
from benchmark_utils.noise import NoNoise
from benchmark_utils.operators.stem_sum import StemSum
from benchmark_utils.options import check_options
from benchmark_utils.priors import Prior
from benchmark_utils.priors.slakh_gaussian import SIGMA_MIN
from benchmark_utils.rng import stream_seed

AUDIO_METRICS = ("si_sdri_all", *(f"si_sdri_{stem}" for stem in STEMS), "si_sdri_active", "data_consistency_db")
LIKELIHOOD_STD = 1e-4


class Dataset(BaseDataset):
    """Music source separation: bass, drums, guitar and piano of Slakh2100 from their sum, without noise.

    "Cutting Music Source Separation Some Slakh", Manilow, Wichern, Seetharaman and Le Roux, WASPAA 2019,
    https://arxiv.org/abs/1909.08494; the task is MSDM's (Mariani et al., ICLR 2024, https://arxiv.org/abs/2302.02257).
    ``tracks`` is ``excerpt`` (shipped, 12 s of Track02098), a number or a quoted range (``tracks='1876-2100'``) of
    the user's tracks, or ``prior``: draws from a closed-form prior. A track is cut into chunks of ``chunk_length``
    samples at 22.05 kHz, the rest is dropped; ``chunks`` is a number or a range of them, None for all. The chunks
    are separated one by one and scored together. ``mixture`` is a sound file of your own instead, or a folder of them,
    whose stems nobody has: its channels are averaged, and scores that need the stems are left out. The noise levels of
    the schedule end at ``sigma_max``. A chunk takes 8 MB, so the whole test part needs several runs.
    """

    name = "slakh2100"
    parameters = {
        "tracks": ["excerpt"],
        "mixture": [None],
        "prior": ["slakh_gaussian"],
        "chunk_length": [262_144],
        "chunks": [None],
        "sigma_max": [20],
    }
    test_config = {"chunk_length": 8192, "chunks": 8}
    requirements = ["pip::soundfile", "pip::soxr", "pip::pyyaml"]

    def get_data(self):
        """One row of the problem per chunk, scored together per track."""
        check_options(self)
        prior = audio_prior(self.prior, self.chunk_length, self.sigma_max)
        try:
            prior.weights.require()
            if self.mixture is not None:
                tracks = read_mixtures(own_path(self.mixture), self.chunk_length, self.chunks)
            elif self.tracks == "prior":
                tracks = draw_tracks(prior, self.chunks)
            else:
                tracks = read_tracks(self.tracks, self.chunk_length, self.chunks)
        except FileNotFoundError as error:
            return {"missing": str(error)}
        rows = [(number, chunk) for number, _, _, chunks in tracks for chunk in chunks]
        groups = {number: [i for i, row in enumerate(rows) if row[0] == number] for number, *_ in tracks}
        known = self.mixture is None
        return {
            "x_true" if known else "y": torch.cat([audio for _, _, audio, _ in tracks]),
            "operator": StemSum(),
            "noise": NoNoise(LIKELIHOOD_STD),
            "task": "separation",
            "prior": prior,
            "metrics": AUDIO_METRICS if known else ("data_misfit",),
            "images": tuple(1000 * number + chunk for number, chunk in rows),
            "files": tuple(name for _, name, _, _ in tracks),
            "n_samples": 1,
            "groups": tuple(groups.values()),
            "unit": "tracks",
        }

    def _get_state(self):
        return {"named": [] if self.mixture is None else files_state(own_path(self.mixture))}

    def __setstate__(self, state):
        pass


def draw_tracks(prior, chunks):
    """Tracks of one chunk each that are draws of a closed-form prior, as ``read_tracks`` has them."""
    if not prior.closed_form:
        raise ValueError(f"tracks=prior draws the truth, which prior={prior.name} cannot: use a closed-form prior")
    loaded = prior.load("cpu")
    numbers = number_range(0 if chunks is None else chunks, "chunks")
    seeds = {number: stream_seed(0, "truth", prior.name, number) for number in numbers}
    return [
        (number, f"draw {number}", loaded.sample(1, torch.Generator().manual_seed(seed)), [0])
        for number, seed in seeds.items()
    ]


def audio_prior(name, length, sigma_max):
    """Handle of a prior of four stems; raises ValueError for another one or too low a sigma_max."""
    if Prior(name).family != "audio":
        raise ValueError(f"prior={name} is no prior of four stems: use slakh_gaussian, slakh_msdm or slakh_isdm")
    if sigma_max <= SIGMA_MIN:
        raise ValueError(f"sigma_max must be above {SIGMA_MIN}, got {sigma_max}")
    return Prior(name, (("length", length), ("sigma_max", float(sigma_max))))
