from benchmark_utils.tasks import FFHQ, TASKS


class Dataset(FFHQ):
    """Random projections of FFHQ faces, one for 10 pixels, or ``fraction``: 0.2 is ``compressed_sensing20``."""

    name = "ffhq_compressed_sensing"
    task = TASKS["compressed_sensing"]
    parameters = FFHQ.parameters | task.parameters
