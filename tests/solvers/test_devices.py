"""A GPU would run it: every solver on torch's ``meta`` device, whose tensors have shapes and no values.

What makes a GPU wait raises there: a value that the host asks for (``.item()``, ``.tolist()``, ``if tensor``, a boolean
index), and a tensor left on the CPU. Between its first and its last call of the denoiser a solver must not move tensors
to the device either, such as a table built at each step; numbers without dimensions travel with the call.
"""

from contextlib import nullcontext
from functools import cache
from importlib import import_module
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from helpers import ROOT
from test_speed import DECIDES_BY_VALUES, NOT_OURS
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import benchmark_utils.rng
from benchmark_utils.evaluate import objective_of
from benchmark_utils.operators.jpeg import JPEG
from benchmark_utils.priors import Prior
from benchmark_utils.priors.base import LoadedPrior
from benchmark_utils.rng import RNG
from benchmark_utils.sampler import CountingPrior

META, N_DRAWS = torch.device("meta"), 2
EXCEPTIONS = DECIDES_BY_VALUES | {
    **{name: "deepinv's sampler: it runs row by row and asks for values" for name in NOT_OURS},
    "demucs": "the network is another package's, which resamples on the CPU",
}
CELL_EXCEPTIONS = {
    ("pseudo_inverse", "motion_blur"): "deepinv's conjugate gradients, once, for an operator without an SVD",
}
SOLVERS = sorted({path.stem for path in (ROOT / "solvers").glob("*.py")} - EXCEPTIONS.keys())
IMAGE_TASKS = [
    ("ffhq_inpainting", {"mask": "half"}),
    ("ffhq_inpainting", {"mask": "random"}),
    ("ffhq_super_resolution", {"factor": 4}),
    ("ffhq_super_resolution", {"factor": 4, "poisson_rate": 0.05}),
    ("ffhq_deblurring", {"blur": "gaussian"}),
    ("ffhq_deblurring", {"blur": "motion"}),
    ("ffhq_jpeg", {"codec": "soft"}),
    ("ffhq_phase_retrieval", {}),
    ("ffhq_hdr", {}),
    ("ffhq_denoising", {}),
    ("ffhq_colorization", {}),
]
REAL_JPEG = ("ffhq_jpeg", {"codec": "real"})  # kornia's codec takes a second for each of these


def on_prior(tasks, prior):
    return [(name, options | {"prior": prior, "n_images": 2}) for name, options in tasks]


CELLS = on_prior([*IMAGE_TASKS, REAL_JPEG], "faces64")
CELLS += on_prior(IMAGE_TASKS[::2], "faces64_latent") + on_prior(IMAGE_TASKS[:1], "faces64_mfa")
CELLS += on_prior(IMAGE_TASKS[:1], "haar_laplace") + [("gaussian_mixture_nonlinear", {"operator": "clip"})]
CELLS += [("gaussian", {"n_problems": 2}), ("gaussian_mixture", {}), ("gaussian_latent", {"n_problems": 2})]
CELLS += [("slakh2100", {"chunk_length": 8192, "chunks": 2})]
SLOW_CELLS = on_prior([*IMAGE_TASKS[1:], REAL_JPEG], "faces64_mfa")
SLOW_CELLS += on_prior([*IMAGE_TASKS[1::2], REAL_JPEG], "faces64_latent")


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


@pytest.fixture()
def meta_device(monkeypatch):
    """Autocast, which ``meta`` has not, off."""
    monkeypatch.setattr(LoadedPrior, "autocast", lambda prior: nullcontext())


@cache
def problem_of(name, options):
    objective = objective_of(import_module(f"datasets.{name}").Dataset.get_instance(**dict(options)))
    return objective.problem, objective.prior


@cache
def load_light(prior):
    """A prior whose networks, which :func:`test_networks` runs, are one operation: a U-Net takes 0.1 s here."""
    loaded = prior.spec.load(META)
    if loaded.networks and prior.is_latent:
        loaded.network = lambda x, label: SimpleNamespace(sample=x * label.view(-1, 1, 1, 1))
        loaded.autoencoder._decode = lambda z: F.interpolate(z[:, :3], scale_factor=4)
        loaded.autoencoder._encode = lambda x: F.avg_pool2d(x, 4).mean(1, keepdim=True).expand(-1, 8, -1, -1)
    elif loaded.networks:
        loaded.network = lambda x, sigma: x * sigma.view(-1, 1, 1, 1)
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


def run_cells(name, cells, monkeypatch):
    """Run a solver on those of ``cells`` that it does not skip; returns their number."""
    module, n_cells = import_module(f"solvers.{name}"), 0
    if name == "mcgdiff":  # which levels y belongs to is read once, before the loop
        monkeypatch.setattr(module, "observation_levels", lambda schedule, x: (torch.full_like(x, 300).long(), [300]))
    config = module.Solver.test_config or {}
    for dataset, options in cells:
        problem, prior = problem_of(dataset, tuple(options.items()))
        solver = module.Solver.get_instance(**{key: value for key, value in config.items() if key != "dataset"})
        if (name, problem.task) in CELL_EXCEPTIONS or solver.skip(problem=problem, prior=prior)[0]:
            continue
        with monkeypatch.context() as context:
            context.setattr(benchmark_utils.rng, "RNG", MetaRNG)
            x, transfers = sample_on_meta(solver, problem, prior)
        assert x.device == META and x.shape == (N_DRAWS * len(problem.images), *prior.signal_shape)
        # kornia checks the value of the quality, which is on the CPU for that
        assert isinstance(problem.operator, JPEG) or not transfers, f"{dataset} {options}: {transfers[:3]}"
        n_cells += 1
    return n_cells


@pytest.mark.parametrize("name", SOLVERS)
def test_solver_runs_on_meta(name, meta_device, monkeypatch):
    assert run_cells(name, CELLS, monkeypatch) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", SOLVERS)
def test_solver_runs_on_meta_for_every_task_and_prior(name, meta_device, monkeypatch):
    run_cells(name, SLOW_CELLS, monkeypatch)


@pytest.mark.parametrize("name", ["faces64", "faces64_latent"])
def test_networks(name, meta_device):
    """The embedded networks at a level and at a noise level, differentiated, decoded and encoded."""
    prior = Prior(name).spec.load(META)
    x = torch.empty(2, *prior.event_shape, device=META, requires_grad=True)
    for denoised in (prior.denoise(x, 500), prior.denoise_sigma(x, 0.5)):
        (gradient,) = torch.autograd.grad(denoised.sum(), x)
        assert gradient.device == META and gradient.shape == x.shape
    signal = prior.decode(x)
    assert signal.shape == (2, *prior.signal_shape) and prior.encode(signal).shape == x.shape


@pytest.mark.parametrize(
    "planted", [lambda x: x.sum().item(), lambda x: torch.tensor([1.0, 2.0]).to(x), lambda x: x.cpu()]
)
def test_host_work_inside_the_loop_is_caught(planted, meta_device, monkeypatch):
    """A sampler that asks for a value, makes a table at each step, or moves its state to the CPU."""
    from solvers.prior_sample import Solver

    original = LoadedPrior.denoise

    def denoise(prior, x_t, t):
        planted(x_t)
        return original(prior, x_t, t)

    problem, prior = problem_of("gaussian", (("n_problems", 2),))
    monkeypatch.setattr(LoadedPrior, "denoise", denoise)
    with monkeypatch.context() as context, pytest.raises((RuntimeError, AssertionError)):
        context.setattr(benchmark_utils.rng, "RNG", MetaRNG)
        _, transfers = sample_on_meta(Solver.get_instance(n_steps=3), problem, prior)
        assert not transfers
