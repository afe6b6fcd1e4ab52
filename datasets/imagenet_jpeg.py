from benchmark_utils.tasks import TASKS, ImageNet


class Dataset(ImageNet):
    """ImageNet images in JPEG files of quality 2, or ``quality``; ``codec="soft"`` is the papers' soft codec.

    Another quality is another task: 10 is ``jpeg10``.
    """

    name = "imagenet_jpeg"
    task = TASKS["jpeg"]
    parameters = ImageNet.parameters | task.parameters
