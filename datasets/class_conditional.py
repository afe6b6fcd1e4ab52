from benchopt import BaseDataset

from benchmark_utils.noise import LabelTilt
from benchmark_utils.operators.label import LabelOnly
from benchmark_utils.options import check_options
from benchmark_utils.priors import Prior
from benchmark_utils.tasks import guided_data, repeat_label


class Dataset(BaseDataset):
    """Images of one class by a class-conditional diffusion transformer, guided or not: real models, no exact law.

    ``prior`` is a ``DiTPipeline``, by its id on the Hugging Face hub or the path of a folder; the default is "Scalable
    Diffusion Models with Transformers", Peebles and Xie, ICCV 2023, https://arxiv.org/abs/2212.09748 (CC BY-NC 4.0),
    whose classes are ImageNet's: ``label=207`` is a golden retriever. Nobody knows p(label | x), so that the rows have
    costs, the spread of the draws, and pictures only; ``export`` writes them for a Frechet distance of your own.
    """

    name = "class_conditional"
    parameters = {"prior": ["facebook/DiT-XL-2-256"], "label": [207], "weight": [2.0], "n_problems": [1]}

    def prior_handle(self):
        return Prior("class_conditional", (("pipeline", self.prior),))

    def prepare(self):
        """Fetch the weights; ``benchopt prepare``."""
        self.prior_handle().weights.prepare()

    def get_data(self):
        """The objective's data, or ``{"missing": what to do}`` without the weights."""
        check_options(self)
        prior = self.prior_handle()
        try:
            prior.weights.require()
        except FileNotFoundError as error:
            return {"missing": str(error)}
        y = repeat_label(self.label, prior.spec.n_classes, self.n_problems, self.prior)
        return guided_data(prior, y, LabelOnly(), LabelTilt(self.weight), ("spread",), n_samples=4)
