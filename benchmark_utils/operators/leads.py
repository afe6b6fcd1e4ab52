"""Partial measurements of electrocardiograms: some leads or some time is seen, the rest is zero, without noise."""

import torch
from deepinv.physics import Inpainting

from benchmark_utils.operators.per_image import PerImage
from benchmark_utils.rng import RNG

N_RANDOM = 3


class SeenLeads(PerImage, Inpainting):
    """deepinv ``Inpainting`` with one mask (n, leads, time) per record; scores are those of the hidden entries."""

    per_image = ("mask",)
    leads = True


def lead_mask(task, shape, records, leads, units="z"):
    """The operator of a task for records of ``shape``, (leads, time), with the numbers ``records``.

    ``lead`` shows the leads of the positions ``leads``, ``random_lead`` three that belong to the record's number,
    whatever the run's seed, ``block`` the first half of all leads, ``gap`` all but the middle quarter, ``denoise`` all.
    """
    n_leads, length = shape
    seen = torch.ones(len(records), *shape)
    if task == "lead":
        seen[:] = 0
        seen[:, list(leads)] = 1
    elif task == "random_lead":
        order = RNG(0, "operator", "random_lead", records, dtype=torch.float64).rand(n_leads).argsort(1)
        seen[:] = (order < N_RANDOM)[..., None]
    elif task == "block":
        seen[..., length // 2 :] = 0
    elif task == "gap":
        seen[..., 3 * length // 8 : 5 * length // 8] = 0
    operator = SeenLeads(img_size=tuple(shape), mask=seen)
    operator.unit_variance = units == "z"
    return operator
