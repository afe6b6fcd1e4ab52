from benchmark_utils.tasks import FFHQ, TASKS


class Dataset(FFHQ):
    """FFHQ faces averaged over blocks of ``factor`` x ``factor`` pixels; ``kind`` may also be ``"bicubic"``.

    ``poisson_rate``, if set, replaces the Gaussian noise by photon counts (0.05 in the MGDM paper).
    """

    name = "ffhq_super_resolution"
    task = TASKS["super_resolution"]
    parameters = FFHQ.parameters | task.parameters
