from benchmark_utils.tasks import TASKS, ImageNet


class Dataset(ImageNet):
    """Moduli of the Fourier transforms of ImageNet images; four samples per image, since many miss the right phase."""

    name = "imagenet_phase_retrieval"
    task = TASKS["phase_retrieval"]
    parameters = ImageNet.parameters | task.parameters
