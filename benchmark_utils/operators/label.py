"""Labels as measurements: what a sampler is asked for is a class or a text, not a signal's measurement."""

import torch
import torch.nn.functional as F
from deepinv.physics import Physics


class ClassProbabilities(Physics):
    """``A(x) = log p(k | x)`` of the C classes of a labelled closed-form prior: (n, *signal) -> (n, C).

    ``prior`` is the handle. The residual of such a measurement means nothing, so that only methods that use the
    likelihood or the prior's conditional denoisers apply.
    """

    differentiable = False
    likelihood = True

    def __init__(self, prior):
        super().__init__()
        self.prior = prior
        self._loaded = {}  # the mixture on the devices that signals came from

    def A(self, x, **_):
        if x.device not in self._loaded:
            self._loaded[x.device] = self.prior.spec.load(x.device)
        return self._loaded[x.device].log_class_probabilities(x)


class LabelOnly(Physics):
    """A label whose probability nobody knows: there is no forward map, only a prior's conditional denoisers."""

    differentiable = False

    def A(self, x, **_):
        raise NotImplementedError("no forward map leads from a signal to its label or text")


def one_hot(label, n_classes, n, source):
    """y of n signals with one label, (n, C); raises ValueError, naming ``source``, for an unknown one."""
    if isinstance(label, bool) or label not in range(n_classes):
        raise ValueError(f"unknown label {label!r}; {source} has the labels 0 to {n_classes - 1}")
    return F.one_hot(torch.full((n,), int(label)), n_classes).double()
