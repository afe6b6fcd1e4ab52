from benchmark_utils.tasks import TASKS, ImageNet


class Dataset(ImageNet):
    """ImageNet images with noise of standard deviation ``noise_std`` and nothing else.

    ``poisson_rate``, if set, replaces the Gaussian noise by photon counts (0.05 in the MGDM paper).
    """

    name = "imagenet_denoising"
    task = TASKS["denoising"]
    parameters = ImageNet.parameters | task.parameters
