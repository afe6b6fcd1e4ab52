from benchmark_utils.tasks import TASKS, ImageNet


class Dataset(ImageNet):
    """ImageNet images averaged over blocks of ``factor`` x ``factor`` pixels; ``kind`` may also be ``"bicubic"``.

    ``poisson_rate``, if set, replaces the Gaussian noise by photon counts (0.05 in the MGDM paper).
    """

    name = "imagenet_super_resolution"
    task = TASKS["super_resolution"]
    parameters = ImageNet.parameters | task.parameters
