import torch

from benchmark_utils.particles import Particles
from benchmark_utils.sampler import PosteriorSampler


class Solver(PosteriorSampler):
    """MCGDiff: "Monte Carlo Guided Diffusion for Bayesian Linear Inverse Problems",
    Cardoso, Janati El Idrissi, Le Corff and Moulines, ICLR 2024, https://arxiv.org/abs/2308.07983

    Algorithms 1 and 2 in the spectral coordinates of ``A = U diag(s) V^T``. Observing ``y_i`` is observing the state
    of the diffusion, ``sqrt(abar_tau) y_i / s_i``, at the level tau_i where ``sigma^2 abar = (1 - abar) s_i^2``. At a
    level t >= tau_i a particle has the potential ``N(x_{t,i}; z_{t,i}, v_t)`` with ``z_t = sqrt(abar_t) y / s`` and
    ``v_t = 1 - (1 - kappa) abar_t / abar_tau``. Each step weights the particles by the predicted potential over the
    present one, resamples them, and moves them by the kernel times the potential; a coordinate below its tau_i
    diffuses freely. The levels tau_i are added to the grid of ``n_steps``. ``n_particles`` is per image (or the
    number of samples asked for, if larger), ``eta`` the noise of the DDIM kernel.
    """

    name = "mcgdiff"
    parameters = {"n_particles": [None], "n_steps": [None], "eta": [None], "kappa": [None]}
    test_config = {"n_particles": 4, "n_steps": 3}
    needs = {"svd", "gaussian"}
    ranges = {"eta": (0, 1)}
    PRESETS = {  # section 5 and appendix B of the paper: images, and the Gaussian mixture
        ("*", "*"): {"n_particles": 64, "n_steps": 100, "eta": 1.0, "kappa": 1e-4},
        ("mixture", "*"): {"n_particles": 1000, "n_steps": 20, "eta": 0.6},
    }

    def sample(self, problem, prior, rng):
        schedule, n_draws = prior.schedule, problem.n_draws
        cloud = rng.particles(max(self.n_particles, n_draws))
        n_images = len(problem.images) // n_draws
        filters = Particles(cloud, n_images)
        problem = problem.with_draws(filters.n_particles)
        operator = problem.operator

        y = operator.U_adjoint(problem.y)
        singular = operator.mask.expand_as(y)
        one_per_image = singular[:: filters.n_particles]
        tau, observed = observation_levels(schedule, problem.noise.std / one_per_image)
        tau = tau.repeat_interleave(filters.n_particles, 0)
        seen = tau <= schedule.T
        levels = sorted({*schedule.grid(self.n_steps), *(t for t in observed if t <= schedule.T)}, reverse=True)
        abar_tau = torch.where(seen, schedule.abar(tau.clamp(max=schedule.T)), 1.0).to(y)
        clean = torch.where(seen, y / singular, 0.0)

        def potential(t):
            """Which coordinates have one at level t, its centre and variance."""
            variance = 1 - (1 - self.kappa) * schedule.abar(t) / abar_tau
            return tau <= t, schedule.abar(t) ** 0.5 * clean, variance

        def move(mean, std, s):
            active, z, v = potential(s)
            gain = torch.where(active, std**2 / (std**2 + v), 0.0)
            spread = torch.where(active, v * gain, std**2).sqrt()
            return mean + gain * (z - mean) + spread * cloud.randn_like(mean)

        x = move(torch.zeros_like(y), 1.0, levels[0])
        for t, s in self.steps(levels):
            c_0, c_t, std = schedule.bridge(0, s, t, self.eta)
            mean = c_0 * operator.V_adjoint(prior.denoise(operator.V(x), t)) + c_t * x
            active, z, v = potential(s)
            if observed[0] <= s:
                _, z_t, v_t = potential(t)
                log_ratio = log_normal(z - mean, std**2 + v) - log_normal(z_t - x, v_t)
                log_weights = torch.where(active, log_ratio, 0.0).double().flatten(1).sum(1)
                mean = mean[filters.multinomial(log_weights)]
            x = move(mean, std, s)
        self.ess = filters.ess_per_image(n_images)
        equal = torch.zeros(len(x), dtype=torch.float64, device=x.device)  # after the last resampling
        return operator.V(x)[filters.systematic(equal, n_draws)]


def observation_levels(schedule, noise_to_signal):
    """Level whose sigma is closest (in logarithm) to each ``noise_to_signal``; T + 1 above the whole schedule.

    Returns the levels as a tensor, and those that occur as an ascending list. Raises ValueError if the rows (images)
    do not share the same levels: the grid would depend on the batch.
    """
    sigma = torch.tensor([schedule.sigma(t) for t in range(1, schedule.T + 1)]).to(noise_to_signal)
    halfway = (sigma[1:] * sigma[:-1]).sqrt()
    levels = 1 + torch.bucketize(noise_to_signal, torch.cat([halfway, sigma[-1:]]))
    occurring = {tuple(row.unique().tolist()) for row in levels.flatten(1)}
    if len(occurring) > 1:
        raise ValueError("mcgdiff: the images' operators have different singular values; run them one at a time")
    return levels, list(*occurring)


def log_normal(distance, variance):
    return -(distance.square() / variance + variance.log()) / 2
