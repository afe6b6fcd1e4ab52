from benchmark_utils.tasks import FFHQ, TASKS


class Dataset(FFHQ):
    """FFHQ faces of twice the contrast that the sensor can take."""

    name = "ffhq_hdr"
    task = TASKS["hdr"]
    parameters = FFHQ.parameters | task.parameters
