from benchmark_utils.tasks import TASKS, ImageNet


class Dataset(ImageNet):
    """ImageNet images of twice the contrast that the sensor can take."""

    name = "imagenet_hdr"
    task = TASKS["hdr"]
    parameters = ImageNet.parameters | task.parameters
