from benchmark_utils.tasks import FFHQ, TASKS


class Dataset(FFHQ):
    """Sums over Hadamard patterns of FFHQ faces, a quarter of them, or ``fraction``: 0.1 is ``single_pixel10``."""

    name = "ffhq_single_pixel"
    task = TASKS["single_pixel"]
    parameters = FFHQ.parameters | task.parameters
