from benchmark_utils.tasks import FFHQ, TASKS


class Dataset(FFHQ):
    """Fourier transforms of FFHQ faces, one column in 4 seen, or in ``acceleration``: 8 is ``mri8``."""

    name = "ffhq_mri"
    task = TASKS["mri"]
    parameters = FFHQ.parameters | task.parameters
