from benchmark_utils.tasks import TASKS, ImageNet


class Dataset(ImageNet):
    """ImageNet images with a hidden box or right half (``mask``), or with 70 % of the pixels hidden (``"random"``).

    ``hidden`` is another fraction of the random mask: 0.5 is the task ``random50``.
    """

    name = "imagenet_inpainting"
    task = TASKS["inpainting"]
    parameters = ImageNet.parameters | task.parameters
