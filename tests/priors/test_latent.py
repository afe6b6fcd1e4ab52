"""Latent problems: with an identity autoencoder they are the pixel problems; with a linear one all is known."""

from types import SimpleNamespace

import pytest
import torch
from deepinv.physics import Inpainting
from helpers import draw, fingerprint_problem
from test_closed_form_datasets import N_DRAWS, objective_of, scores

from benchmark_utils.noise import GaussianNoise
from benchmark_utils.operators.hdr import HDR
from benchmark_utils.priors import Prior
from benchmark_utils.problem import InverseProblem, capabilities
from benchmark_utils.rng import RNG
from datasets.gaussian_latent import Dataset as GaussianLatent
from solvers.daps import Solver as DAPS
from solvers.ddrm import Solver as DDRM
from solvers.dps import Solver as DPS
from solvers.exact_posterior import Solver as ExactPosterior
from solvers.mgdm import Solver as MGDM
from solvers.pnp_dm import Solver as PnPDM
from solvers.pseudo_inverse import Solver as PseudoInverse
from solvers.psld import Solver as PSLD
from solvers.resample import Solver as ReSample
from solvers.resample import resample


def as_latent(prior):
    """Handles of a pixel prior, called latent (its ``decode`` and ``encode`` are the identity), and of itself."""
    for name in ("identity", "pixel"):
        handle = SimpleNamespace(name=name, family="ffhq_latent", is_latent=name == "identity", closed_form=False)
        handle.signal_shape = handle.event_shape = prior.event_shape
        handle.load = prior.load
        yield handle


def views(prior, operator, noise, y, task, m):
    """A problem as a latent one and as a pixel one, with the same presets: (problem, handle) twice."""
    for handle in as_latent(prior):
        found = capabilities(operator, noise, handle)
        yield InverseProblem(operator, noise, y, task, m, tuple(range(len(y))), capabilities=found), handle


@pytest.fixture
def pair():
    problem, prior = fingerprint_problem()
    return list(views(prior, problem.operator, problem.noise, problem.y, "gaussian", 2))


@pytest.mark.parametrize(
    "Solver, parameters",
    [
        (MGDM, {"n_steps": 12, "n_denoise": 5}),
        (DPS, {"n_steps": 20}),
        (DAPS, {"n_levels": 8}),
        (PnPDM, {"n_iterations": 8, "n_langevin": 10, "likelihood": "langevin"}),
    ],
)
def test_identity_autoencoder_gives_the_pixel_method_bit_for_bit(pair, Solver, parameters):
    latent, pixel = (draw(Solver, *view, 50, **parameters) for view in pair)
    assert torch.equal(latent, pixel) and latent.std() > 0.1


def mask_views():
    """Three images of eight coordinates, every second one seen."""
    operator = Inpainting(img_size=(8,), mask=torch.tensor([1.0, 0.0] * 4, dtype=torch.float64))
    y = operator.mask * torch.linspace(-2, 2, 8, dtype=torch.float64).expand(3, 8)
    return views(Prior("gaussian", (("dim", 8), ("correlation", 0.5))), operator, GaussianNoise(0.2), y, "random", 4)


@pytest.mark.parametrize("backward", ["adjoint", "pinv"])
def test_psld_with_identity_autoencoder_is_dps(backward):
    """For a mask A^T (y - A z_0) is the residual itself, so both norms are DPS's: a scale of omega + gamma."""
    latent, pixel = mask_views()
    shared = {"n_steps": 30}
    psld = draw(PSLD, *latent, 20, omega=0.15, gamma=0.05, eta=1.0, backward=backward, **shared)
    dps = draw(DPS, *pixel, 20, zeta=0.2, **shared)
    torch.testing.assert_close(psld, dps, rtol=0, atol=1e-10)
    deterministic = draw(PSLD, *latent, 20, omega=0.15, gamma=0.05, eta=0.0, **shared)
    assert (deterministic - dps).abs().max() > 0.1


def test_one_step_of_psld_is_the_formula():
    """A DDIM step minus (omega + gamma) grad ||y - A D(z_t)||, by hand for the Gaussian prior."""
    (problem, handle), _ = mask_views()
    prior = handle.load("cpu")
    z = draw(PSLD, problem, handle, 1, n_steps=1, omega=0.15, gamma=0.05, eta=0.0)[:, 0]
    start = RNG(0, "sampler", "random", (0, 1, 2), dtype=torch.float64).randn(8)
    with torch.enable_grad():
        z_t = start.requires_grad_()
        z_0 = prior.denoise(z_t, 1000)
        distance = (problem.y - problem.A(z_0)).norm(dim=1).sum()
        (gradient,) = torch.autograd.grad(distance, z_t)
    torch.testing.assert_close(z, z_0.detach() - 0.2 * gradient, rtol=0, atol=1e-12)


def test_resampling_has_its_two_limits():
    """Strong consistency: sqrt(abar) z_hat + sqrt(1 - abar) n. None: the state itself."""
    n, abar_t, abar = 20_000, 0.3, 0.5
    z_hat, z = torch.full((n, 1), 2.0).double(), torch.full((n, 1), -1.0).double()

    def law(gamma):
        noise = RNG(0, "sampler", "gaussian", range(n), dtype=torch.float64, block=1)
        drawn = resample(z_hat, z, abar_t, abar, gamma, noise)
        return drawn.mean().item(), drawn.var().item()

    # standard error of the mean 0.005, of the variance 1 %
    mean, variance = law(1e9)
    assert mean == pytest.approx(abar**0.5 * 2.0, abs=0.02) and variance == pytest.approx(1 - abar, rel=0.04)
    mean, variance = law(1e-9)
    assert mean == pytest.approx(-1.0, abs=1e-3) and variance < 1e-6
    s = 4.0 * (1 - abar) / (1 - abar_t) * (1 - abar_t / abar)
    mean, variance = law(4.0)
    assert mean == pytest.approx((s * abar**0.5 * 2.0 - (1 - abar)) / (s + 1 - abar), abs=0.02)
    assert variance == pytest.approx(1 / (1 / s + 1 / (1 - abar)), rel=0.04)


@pytest.mark.parametrize("n_steps", [1, 2, 3, 7, 50])
def test_resample_runs_any_number_of_steps_and_ends_within_its_tolerance(pair, n_steps):
    (problem, handle), _ = pair
    x = draw(ReSample, problem, handle, 20, n_steps=n_steps, every=3, n_latent=2000, n_pixel=200, tolerance=0.05)
    misfit = problem.rows([0], 20).residual(x[0]).square().sum(1) / problem.n_observed
    assert (misfit.sqrt() <= 0.05).all()


class CountingReSample(ReSample):
    """Counts the optimisations: (pixel space, latent space)."""

    def sample(self, problem, prior, rng):
        type(self).fits = [0, 0]
        return super().sample(problem, prior, rng)

    def fit(self, problem, *arguments):
        self.fits[problem.pixel is not None] += 1
        return super().fit(problem, *arguments)


def test_resample_has_its_three_stages(pair):
    """Of 500 steps, with 499 left at the first: consistency at 330, 320, ..., 10, below 166 the latent's; one more."""
    (problem, handle), _ = pair
    draw(CountingReSample, problem, handle, 1, n_pixel=1, n_latent=1)
    assert CountingReSample.fits == [17, 16 + 1]


def test_resample_evaluates_the_denoiser_as_often_as_the_released_code(pair):
    """500 steps, and 33 times 4 DDIM steps and an estimate ahead."""
    (problem, handle), _ = pair
    solver = ReSample.get_instance(n_pixel=1, n_latent=1)
    solver.set_objective(problem, handle, 1, 0)
    solver.run(None)
    assert solver.get_result()["nfe"] == 665


@pytest.mark.parametrize("estimate", ["code", "tweedie"])
def test_resample_has_one_estimate_for_guidance_and_consistency(pair, estimate):
    """Under N(0, I) D = sqrt(abar) z, so that the code's estimate is (1 - (1 - abar)^1.5) z / sqrt(abar)."""
    (problem, handle), _ = pair
    prior = handle.load("cpu")
    solver = ReSample.get_instance(estimate=estimate)
    solver.set_objective(problem, handle, 1, 0)
    z, abar = torch.tensor([[0.3, -0.2, 0.5]], dtype=torch.float64), prior.schedule.abar(400)
    expected = abar**0.5 * z if estimate == "tweedie" else (1 - (1 - abar) ** 1.5) * z / abar**0.5
    torch.testing.assert_close(solver.look_ahead(prior, z, [400, 0]), expected, rtol=0, atol=1e-12)


def test_mgdm_takes_many_gradient_steps_at_every_tenth_step(pair):
    """Table 5: 20 steps for i <= 25 or i mod 10 = 0, else 3, with i = 98, ..., 2: 31 times 20 and 66 times 3."""
    solver = MGDM.get_instance()
    problem, handle = pair[0]
    solver.set_objective(problem, handle, 1, 0)
    solver.run(None)
    assert solver.get_result()["vjp"] == 31 * 20 + 66 * 3


@pytest.mark.parametrize("Solver", [PSLD, ReSample])
def test_latent_methods_skip_pixel_problems(pair, Solver):
    _, (problem, handle) = pair
    skipped, reason = Solver.get_instance().skip(problem, handle)
    assert skipped and "needs latent" in reason


def test_psld_skips_nonlinear_operators():
    found = capabilities(HDR(), GaussianNoise(0.05), Prior("faces64_latent"))
    problem = SimpleNamespace(capabilities=found, task="hdr")
    skipped, reason = PSLD.get_instance().skip(problem, Prior("faces64_latent"))
    assert skipped and "needs linear_operator" in reason
    assert not ReSample.get_instance().skip(problem, Prior("faces64_latent"))[0]


@pytest.mark.parametrize("Solver", [DDRM, PseudoInverse])
def test_pixel_methods_are_skipped_with_the_reason(pair, Solver):
    (problem, handle), _ = pair
    skipped, reason = Solver.get_instance().skip(problem, handle)
    assert skipped and reason.endswith("of a latent, A(decode(z)) is not linear")


@pytest.mark.parametrize(
    "Solver, parameters, message", [(PSLD, {"backward": "both"}, "backward"), (ReSample, {"estimate": "x"}, "estimate")]
)
def test_bad_parameters_are_named(pair, Solver, parameters, message):
    with pytest.raises(ValueError, match=f"{Solver.name}: {message} must be"):
        draw(Solver, *pair[0], 1, **parameters)


# a Gaussian latent behind a linear decoder


@pytest.fixture(scope="module")
def objective():
    return objective_of(GaussianLatent, n_samples=N_DRAWS)


def test_posterior_of_the_linear_decoder_is_the_closed_form(objective):
    """Conditioning the joint Gaussian of (x, y), in signal space: covariance of x W W^T."""
    problem, prior = objective.problem, objective.prior.load()
    W = prior.decoder
    A = problem.operator.A(torch.eye(5).double()).T
    gain = W @ W.T @ A.T @ torch.linalg.inv(A @ W @ W.T @ A.T + problem.noise.std**2 * torch.eye(2))
    posterior = prior.posterior(problem)
    torch.testing.assert_close(posterior.mean, problem.y @ gain.T)
    torch.testing.assert_close(posterior.trace_cov[0], (W @ W.T - gain @ A @ W @ W.T).trace())
    x = prior.decode(torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    torch.testing.assert_close(prior.decode(prior.encode(x)), x)


def test_exact_draws_of_the_latent_pass(objective):
    """As for the pixel Gaussian: 8 problems, n mean_error^2 has mean 1 and variance below 2."""
    found = scores(objective, ExactPosterior)
    assert (N_DRAWS * found["mean_error"] ** 2).mean() < 1 + 4 * (2 / 8) ** 0.5
    assert abs(found["variance_ratio"] - 1).max() < 5 * (2 / N_DRAWS) ** 0.5
    assert abs(found["data_misfit"].mean() - 1) < 4 / 8**0.5


def test_bad_dimensions_are_named():
    with pytest.raises(ValueError, match="1 to 5 dimensions.*got dim=6"):
        GaussianLatent.get_instance(dim=6).get_data()
    with pytest.raises(ValueError, match="needs a dim .signal_dim. of 2 or more, got 1"):
        GaussianLatent.get_instance(dim=1, signal_dim=1).get_data()


# As shipped, and with settings for data of this size where those are for images. Measured with 250 draws (mean error,
# variance ratio): a mean over 8 problems has standard errors of about 0.015 and 0.02, MGDM's with the random indices
# twice as much. Why: docs/exactness.md.
NEAR_THE_POSTERIOR = {
    "daps": {"tau": "noise", "n_inner": 100, "step_size": 1e-3, "step_decay": 1.0, "momentum": 0.0, "data_factor": 0.5}
    | {"clamp": float("inf")},
    "pnp_dm": {"rho_min": 0.1, "step_size": 1e-3},
}


@pytest.mark.parametrize(
    "Solver, parameters, mean_error, variance_ratio",
    [
        (MGDM, {}, 0.160, 1.21),
        (DPS, {}, 0.351, 0.67),
        (PSLD, {}, 0.351, 0.68),
        (DAPS, {}, 0.192, 0.41),
        pytest.param(DAPS, NEAR_THE_POSTERIOR["daps"], 0.067, 1.08, marks=pytest.mark.slow),
        pytest.param(ReSample, {}, 0.328, 0.69, marks=pytest.mark.slow),
        pytest.param(PnPDM, {}, 0.617, 0.80, marks=pytest.mark.slow),
        pytest.param(PnPDM, NEAR_THE_POSTERIOR["pnp_dm"], 0.060, 0.90, marks=pytest.mark.slow),
    ],
)
def test_latent_solvers_on_the_linear_decoder(objective, Solver, parameters, mean_error, variance_ratio):
    found = scores(objective, Solver, **parameters)
    assert found["mean_error"].mean() == pytest.approx(mean_error, abs=0.06)
    assert found["variance_ratio"].mean() == pytest.approx(variance_ratio, abs=0.12)
