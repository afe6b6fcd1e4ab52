from benchmark_utils.tasks import FFHQ, TASKS


class Dataset(FFHQ):
    """Sinograms of FFHQ faces from parallel beams at 30 angles, or at ``angles``: 10 is the task ``ct10``."""

    name = "ffhq_ct"
    task = TASKS["ct"]
    parameters = FFHQ.parameters | task.parameters
