from benchmark_utils.tasks import TASKS, ImageNet


class Dataset(ImageNet):
    """ImageNet images of which only the mean over the channels is seen."""

    name = "imagenet_colorization"
    task = TASKS["colorization"]
    parameters = ImageNet.parameters | task.parameters
