"""A GPU would run it: every solver on torch's ``meta`` device, see ``benchmark_utils.checks.meta``."""

from contextlib import nullcontext
from importlib import import_module

import pytest
import torch
from helpers import ROOT

from benchmark_utils.checks.meta import EXCEPTIONS, META, problem_of, run_cells, sample_on_meta
from benchmark_utils.priors import Prior
from benchmark_utils.priors.base import LoadedPrior

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
    ("ffhq_ct", {"angles": 2}),  # few rows, whose SVD takes a second
    ("ffhq_mri", {}),
    ("ffhq_single_pixel", {}),
    ("ffhq_compressed_sensing", {"fraction": 0.01}),
]
REAL_JPEG = ("ffhq_jpeg", {"codec": "real"})  # kornia's codec takes a second for each of these


def on_prior(tasks, prior):
    return [(name, options | {"prior": prior, "n_images": 2}) for name, options in tasks]


CELLS = on_prior([*IMAGE_TASKS, REAL_JPEG], "faces64")
CELLS += on_prior(IMAGE_TASKS[::2], "faces64_latent") + on_prior(IMAGE_TASKS[:1], "faces64_mfa")
CELLS += on_prior(IMAGE_TASKS[:1], "haar_laplace") + [("gaussian_mixture_nonlinear", {"operator": "clip"})]
CELLS += [("gaussian", {"n_problems": 2}), ("gaussian_mixture", {}), ("gaussian_latent", {"n_problems": 2})]
CELLS += [("slakh2100", {"chunk_length": 8192, "chunks": 2})]
CELLS += [("labelled_mixture", {"n_problems": 2}), ("digits", {"n_problems": 2})]
CELLS += [("ptbxl", {"prior": prior, "n_records": 2, "task": "random_lead"}) for prior in ("ecg", "ecg_stationary")]
SLOW_CELLS = on_prior([*IMAGE_TASKS[1:], REAL_JPEG], "faces64_mfa")
SLOW_CELLS += on_prior([*IMAGE_TASKS[1::2], REAL_JPEG], "faces64_latent")


def run_on_meta(name, cells, monkeypatch):
    module = import_module(f"solvers.{name}")
    if name == "mcgdiff":  # which levels y belongs to is read once, before the loop
        monkeypatch.setattr(module, "observation_levels", lambda schedule, x: (torch.full_like(x, 300).long(), [300]))
    return run_cells(module.Solver, cells)


@pytest.mark.parametrize("name", SOLVERS)
def test_solver_runs_on_meta(name, monkeypatch):
    assert run_on_meta(name, CELLS, monkeypatch) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", SOLVERS)
def test_solver_runs_on_meta_for_every_task_and_prior(name, monkeypatch):
    run_on_meta(name, SLOW_CELLS, monkeypatch)


@pytest.mark.parametrize("name", ["faces64", "faces64_latent", "ecg"])
def test_networks(name, monkeypatch):
    """The embedded networks at a level and at a noise level, differentiated, decoded and encoded."""
    monkeypatch.setattr(LoadedPrior, "autocast", lambda prior: nullcontext())  # meta has none
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
def test_host_work_inside_the_loop_is_caught(planted, monkeypatch):
    """A sampler that asks for a value, makes a table at each step, or moves its state to the CPU."""
    from solvers.prior_sample import Solver

    original = LoadedPrior.denoise

    def denoise(prior, x_t, t):
        planted(x_t)
        return original(prior, x_t, t)

    problem, prior = problem_of("gaussian", (("n_problems", 2),))
    monkeypatch.setattr(LoadedPrior, "denoise", denoise)
    with pytest.raises((RuntimeError, AssertionError)):
        _, transfers = sample_on_meta(Solver.get_instance(n_steps=3), problem, prior)
        assert not transfers
