from benchmark_utils.tasks import TASKS, ImageNet


class Dataset(ImageNet):
    """Random projections of ImageNet images, one for 10 pixels, or ``fraction``: 0.2 is ``compressed_sensing20``."""

    name = "imagenet_compressed_sensing"
    task = TASKS["compressed_sensing"]
    parameters = ImageNet.parameters | task.parameters
