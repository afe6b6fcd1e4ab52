from benchopt import BaseDataset

from benchmark_utils.files.paths import files_state, own_path
from benchmark_utils.noise import TextTilt
from benchmark_utils.operators.label import LabelOnly
from benchmark_utils.options import check_options
from benchmark_utils.priors import Prior
from benchmark_utils.tasks import guided_data


class Dataset(BaseDataset):
    """Ten seconds of sound from a text, as mel spectrograms: real models, no exact law.

    ``prior`` is an ``AudioLDM2Pipeline`` (or a ``StableDiffusionPipeline``, for pictures), by its id on the Hugging
    Face hub or the path of a folder; the default is "AudioLDM 2", Liu et al., 2023, https://arxiv.org/abs/2308.05734.
    ``texts`` is one text, or a file ``*.txt`` with one on each line, such as captions of AudioCaps. Rows have costs,
    the spread of the draws, and pictures only: the vocoder, CLAP and the Frechet audio distance are not run here.
    """

    name = "text_to_audio"
    parameters = {
        "prior": ["cvssp/audioldm2"],
        "texts": ["The sound of a hammer hitting a wooden surface"],
        "weight": [2.0],
    }
    requirements = ["pip::transformers"]

    def prior_handle(self):
        return Prior("text", (("pipeline", self.prior),))

    def prepare(self):
        """Fetch the weights; ``benchopt prepare``."""
        self.prior_handle().weights.prepare()

    def get_data(self):
        """The objective's data, or ``{"missing": what to do}`` without the weights or the package transformers."""
        check_options(self)
        prior = self.prior_handle()
        try:
            prior.weights.require()
            texts = read_texts(self.texts)
            y = prior.spec.encode(texts).double()
        except (FileNotFoundError, ImportError) as error:
            return {"missing": str(error)}
        return guided_data(prior, y, LabelOnly(), TextTilt(self.weight), ("spread",), n_samples=2, texts=texts)

    def _get_state(self):
        return {"named": files_state(own_path(self.texts)) if self.texts.endswith(".txt") else []}

    def __setstate__(self, state):
        pass


def read_texts(texts):
    """A list of texts: the one given, or the lines of a file ``*.txt``; raises ValueError if there are none."""
    lines = own_path(texts).read_text().splitlines() if texts.endswith(".txt") else [texts]
    found = [line.strip() for line in lines if line.strip()]
    if not found:
        raise ValueError(f"texts={texts!r} holds no text: give one, or a file *.txt with one on each line")
    return found
