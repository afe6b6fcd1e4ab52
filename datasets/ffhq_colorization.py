from benchmark_utils.tasks import FFHQ, TASKS


class Dataset(FFHQ):
    """FFHQ faces of which only the mean over the channels is seen."""

    name = "ffhq_colorization"
    task = TASKS["colorization"]
    parameters = FFHQ.parameters | task.parameters
