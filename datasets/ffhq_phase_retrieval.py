from benchmark_utils.tasks import FFHQ, TASKS


class Dataset(FFHQ):
    """Moduli of the Fourier transforms of FFHQ faces; four samples per image, since many miss the right phase."""

    name = "ffhq_phase_retrieval"
    task = TASKS["phase_retrieval"]
    parameters = FFHQ.parameters | task.parameters
