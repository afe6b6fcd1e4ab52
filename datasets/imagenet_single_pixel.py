from benchmark_utils.tasks import TASKS, ImageNet


class Dataset(ImageNet):
    """Sums over Hadamard patterns of ImageNet images, a quarter of them, or ``fraction``: 0.1 is ``single_pixel10``."""

    name = "imagenet_single_pixel"
    task = TASKS["single_pixel"]
    parameters = ImageNet.parameters | task.parameters
