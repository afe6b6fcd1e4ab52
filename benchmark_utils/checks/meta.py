"""A GPU would run it: a solver on torch's ``meta`` device, whose tensors have shapes and no values.

What makes a GPU wait raises there: a value that the host asks for (``.item()``, ``.tolist()``, ``if tensor``, a boolean
index), and a tensor left on the CPU. Between its first and its last call of the denoiser a solver must not move tensors
to the device either, such as a table built at each step; numbers without dimensions travel with the call.
"""

from contextlib import nullcontext
from functools import cache
from importlib import import_module
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmark_utils.evaluate import objective_of
from benchmark_utils.operators.jpeg import JPEG
from benchmark_utils.rng import RNG
from benchmark_utils.sampler import CountingPrior

META, N_DRAWS = torch.device("meta"), 2
# how many values reach the host must not grow with the number of steps; these decide by them what to do next
DECIDES_BY_VALUES = {
    "sitcom": "each image leaves the inner loop when its misfit is met, which saves network calls",
    "resample": "the fit of a latent ends when every image is at its tolerance, which saves calls of the decoder",
}
NOT_OURS = {"deepinv_ddrm", "deepinv_diffpir", "deepinv_dps", "deepinv_pgdm"}
EXCEPTIONS = DECIDES_BY_VALUES | {
    **{name: "deepinv's sampler: it asks for values at each step" for name in NOT_OURS},
    "demucs": "the network is another package's, which resamples on the CPU",
}
CELL_EXCEPTIONS = {
    ("exact_posterior", "random_lead"): "which leads or entries a mask shows is read once",
    ("exact_posterior", "label"): "rejection: it asks which rows were accepted",
    ("pseudo_inverse", "motion_blur"): "deepinv's conjugate gradients, once, for an operator without an SVD",
}


class MetaRNG(RNG):
    """A stream on the device whose generators are on the CPU, since ``meta`` has none."""

    def __init__(self, seed, purpose, task, images, draws, device, dtype):
        super().__init__(seed, purpose, task, images, draws, "cpu", dtype)
        self.device = device

    def _serve(self, sampler, shape):
        return torch.empty(len(self.images), *shape, dtype=self.dtype, device=self.device)


class Transfers(TorchDispatchMode):
    """``found``: operations that mixed a CPU tensor with the device's, between two calls of the denoiser."""

    def __init__(self):
        super().__init__()
        self.found, self.since_call, self.n_calls = [], [], 0

    def note_call(self):
        self.found += self.since_call if self.n_calls else []
        self.since_call, self.n_calls = [], self.n_calls + 1

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        tensors = [value for value in tree_leaves((args, kwargs, result)) if torch.is_tensor(value)]
        devices = {value.device.type for value in tensors if value.ndim or value.device == META}
        if devices == {"cpu", "meta"}:
            self.since_call.append(f"{function} {[tuple(value.shape) for value in tensors]}")
        return result


class WatchedPrior(CountingPrior):
    def __init__(self, prior, transfers):
        super().__init__(prior)
        self.transfers = transfers

    def _count(self, x_hat):
        self.transfers.note_call()
        return super()._count(x_hat)


@cache
def problem_of(name, options):
    """(problem, prior handle) of a dataset's name and its options, a tuple of pairs."""
    objective = objective_of(import_module(f"datasets.{name}").Dataset.get_instance(**dict(options)))
    return objective.problem, objective.prior


@cache
def load_light(prior):
    """A prior whose networks are one operation: a U-Net takes 0.1 s here."""
    loaded = prior.spec.load(META)
    loaded.autocast = nullcontext  # meta has none
    if loaded.networks and prior.is_latent:
        loaded.network = lambda x, label: SimpleNamespace(sample=x * label.view(-1, 1, 1, 1))
        loaded.autoencoder._decode = lambda z: F.interpolate(z[:, :3], scale_factor=4)
        loaded.autoencoder._encode = lambda x: F.avg_pool2d(x, 4).mean(1, keepdim=True).expand(-1, 8, -1, -1)
    elif loaded.networks:
        loaded.network = lambda x, sigma: x * sigma.view(-1, *[1] * (x.ndim - 1))
    return loaded


def sample_on_meta(solver, problem, handle):
    """What ``PosteriorSampler.run`` does with a batch, on ``meta``: (samples, transfers)."""
    loaded, transfers = load_light(handle), Transfers()
    prior = WatchedPrior(loaded, transfers)
    solver.resolve_presets(handle.family, problem.task)
    solver._label, solver._batches_done, solver._n_batches = str(solver), 0, 1
    problem = problem.to(META, loaded.dtype).rows(range(len(problem.images)), N_DRAWS)
    draws = list(range(N_DRAWS)) * (len(problem.images) // N_DRAWS)
    rng = MetaRNG(0, "sampler", problem.task, problem.images, draws, META, loaded.dtype)
    problem = problem.in_latent_space(prior) if handle.is_latent else problem
    with torch.no_grad(), transfers:
        return prior.decode(solver.sample(problem, prior, rng)), transfers.found


def run_cells(Solver, cells):
    """Run a solver class on those of ``cells``, (dataset, options), that it does not skip; returns their number.

    Raises what the solver raises there, and AssertionError for transfers inside the loop or a result that is not
    (n, *signal) on the device.
    """
    n_cells, config = 0, Solver.test_config or {}
    for dataset, options in cells:
        problem, prior = problem_of(dataset, tuple(options.items()))
        solver = Solver.get_instance(**{key: value for key, value in config.items() if key != "dataset"})
        if (Solver.name, problem.task) in CELL_EXCEPTIONS or solver.skip(problem=problem, prior=prior)[0]:
            continue
        x, transfers = sample_on_meta(solver, problem, prior)
        expected = (N_DRAWS * len(problem.images), *prior.signal_shape)
        if x.device != META or x.shape != expected:
            raise AssertionError(f"{dataset}: the result is {tuple(x.shape)} on {x.device}, not {expected} on {META}")
        if transfers and not isinstance(problem.operator, JPEG):  # kornia checks the quality, which is on the CPU
            raise AssertionError(f"{dataset} {options}: tensors pass from host to device in the loop: {transfers[0]}")
        n_cells += 1
    return n_cells
