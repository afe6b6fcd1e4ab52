from benchmark_utils.tasks import FFHQ, TASKS


class Dataset(FFHQ):
    """FFHQ faces with noise of standard deviation ``noise_std`` and nothing else.

    ``poisson_rate``, if set, replaces the Gaussian noise by photon counts (0.05 in the MGDM paper).
    """

    name = "ffhq_denoising"
    task = TASKS["denoising"]
    parameters = FFHQ.parameters | task.parameters
