from benchopt import BaseDataset

from benchmark_utils.files.slakh import separation_data


class Dataset(BaseDataset):
    """Music source separation: bass, drums, guitar and piano of Slakh2100 from their sum, without noise.

    "Cutting Music Source Separation Some Slakh", Manilow, Wichern, Seetharaman and Le Roux, WASPAA 2019,
    https://arxiv.org/abs/1909.08494; the task is MSDM's (Mariani et al., ICLR 2024, https://arxiv.org/abs/2302.02257).
    ``tracks`` is ``excerpt`` (shipped, 12 s of Track02098), a number or a quoted range (``tracks='1876-2100'``) of
    the user's tracks, or ``prior``: draws from a closed-form prior. A track is cut into chunks of ``chunk_length``
    samples at 22.05 kHz, the rest is dropped; ``chunks`` is a number or a range of them, None for all. The chunks
    are separated one by one and scored together. The noise levels of the schedule end at ``sigma_max``. A chunk
    takes 8 MB, so the whole test part needs several runs.
    """

    name = "slakh2100"
    parameters = {
        "tracks": ["excerpt"],
        "prior": ["slakh_gaussian"],
        "chunk_length": [262_144],
        "chunks": [None],
        "sigma_max": [20],
    }
    test_config = {"chunk_length": 8192, "chunks": 8}
    requirements = ["pip::soundfile", "pip::soxr", "pip::pyyaml"]

    def get_data(self):
        return separation_data(self)
