from benchmark_utils.tasks import TASKS, ImageNet


class Dataset(ImageNet):
    """Fourier transforms of ImageNet images, one column in 4 seen, or in ``acceleration``: 8 is ``mri8``."""

    name = "imagenet_mri"
    task = TASKS["mri"]
    parameters = ImageNet.parameters | task.parameters
