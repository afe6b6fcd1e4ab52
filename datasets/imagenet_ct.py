from benchmark_utils.tasks import TASKS, ImageNet


class Dataset(ImageNet):
    """Sinograms of ImageNet images from parallel beams at 30 angles, or at ``angles``: 10 is the task ``ct10``."""

    name = "imagenet_ct"
    task = TASKS["ct"]
    parameters = ImageNet.parameters | task.parameters
