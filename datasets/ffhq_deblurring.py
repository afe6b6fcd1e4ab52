from benchmark_utils.tasks import FFHQ, TASKS


class Dataset(FFHQ):
    """Blurred FFHQ faces; ``blur`` may also be ``"gaussian_reflect"`` or ``"nonlinear"`` (needs its network).

    ``blur_std`` is the standard deviation of the Gaussian kernel in pixels of a 256-px image, 3 unless set; it scales
    with the resolution, and 2 is the task ``gaussian_blur2``.
    ``poisson_rate``, if set, replaces the Gaussian noise by photon counts (0.05 in the MGDM paper).
    """

    name = "ffhq_deblurring"
    task = TASKS["deblurring"]
    parameters = FFHQ.parameters | task.parameters
