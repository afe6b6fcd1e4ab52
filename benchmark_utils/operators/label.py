"""Labels as measurements: what a sampler is asked for is a class or a text, not a signal's measurement."""

import torch
from deepinv.physics import Physics


class ClassProbabilities(Physics):
    """``A(x) = log p(k | x)`` of the C classes of a labelled closed-form prior: (n, *signal) -> (n, C).

    ``prior`` is the handle; ``pictures`` (C, *signal) in [-1, 1] show what the labels mean. The residual of such a
    measurement means nothing: only methods that use the likelihood or the prior's conditional denoisers apply.
    """

    differentiable = False
    likelihood = True

    def __init__(self, prior, pictures=None):
        super().__init__()
        self.prior, self.pictures = prior, pictures
        self.mixture = prior.spec.load("cpu")

    def _apply(self, move, recurse=True):
        """Load the mixture, which is no module, on the device that torch moves this one to."""
        device = move(torch.empty(0)).device
        if device != self.mixture.means.device:
            self.mixture = self.prior.spec.load(device)
        return super()._apply(move, recurse)

    def A(self, x, **_):
        return self.mixture.log_class_probabilities(x)

    def picture(self, y, noise):
        """A signal of each row's class."""
        return self.pictures[y.argmax(1)]


class LabelOnly(Physics):
    """A label whose probability nobody knows: there is no forward map, only a prior's conditional denoisers."""

    differentiable = False

    def A(self, x, **_):
        raise NotImplementedError("no forward map leads from a signal to its label or text")
