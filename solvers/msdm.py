import math

from benchmark_utils.sampler import PosteriorSampler
from benchmark_utils.schedule import karras_levels

SETTINGS = {"n_steps": 150, "n_rounds": 2, "churn": 20.0, "sigma_min": 1e-4, "sigma_max": 1.0, "rho": 7.0}
SETTINGS |= {"source": 0, "gamma": 0.75}


class Solver(PosteriorSampler):
    """MSDM: "Multi-Source Diffusion Models for Simultaneous Music Generation and Separation",
    Mariani, Tallini, Postolache, Mancusi, Cosmo and Rodola, ICLR 2024, https://arxiv.org/abs/2302.02257

    Source separation (algorithm 1) in the variance-exploding view: Euler steps ``x += (s' - s) d`` on the grid of EDM,
    with its churn, where ``e_k = (x_k - D_k(x; s)) / s`` is minus s times the score of source k:
      ``likelihood="dirac"``     x_c = y - sum_{k != c} x_k first, then d_k = e_k - e_c
      ``likelihood="gaussian"``  d_k = e_k - s / (2 g^2) (y - sum_j x_j),   g = ``gamma`` s
    where c is ``source``. Each level is passed ``n_rounds`` times, the first ones being noised back (the paper's
    correction steps). A Dirac step multiplies the error of the sum of the other stems by 1 - 4 (s - s') / s, so that
    fewer than about 60 steps diverge with this churn. The factor 2 in the Gaussian rule is the released code's. The
    priors ``slakh_msdm`` (one joint model) and ``slakh_isdm`` (four independent ones) make this the paper's MSDM and
    ISDM.
    """

    name = "msdm"
    parameters = {"likelihood": ["dirac"]} | {name: [None] for name in SETTINGS}
    test_config = {"n_steps": 3, "dataset": {"name": "slakh2100"}}
    needs = {"separation"}
    steps_are_levels = False
    choices = {"likelihood": ("dirac", "gaussian")}
    ranges = {"source": (0, 3)}
    # released configurations of separation with the joint model; "gaussian" has churn 40 there
    PRESETS = {("*", "*"): SETTINGS}

    def sample(self, problem, prior, rng):
        levels = [*karras_levels(self.sigma_max, self.sigma_min, self.n_steps, self.rho), 0.0]
        extra = min(self.churn / self.n_steps, math.sqrt(2) - 1)
        x = levels[0] * rng.randn(*prior.event_shape)
        for sigma, sigma_next in self.steps(levels):
            for n_left in reversed(range(self.n_rounds)):
                raised = sigma * (1 + extra)
                x = x + math.sqrt(raised**2 - sigma**2) * rng.randn(*prior.event_shape)
                x = self.step(problem, prior, x, raised, sigma_next)
                if n_left:
                    x = x + math.sqrt(sigma**2 - sigma_next**2) * rng.randn(*prior.event_shape)
        return x

    def step(self, problem, prior, x, sigma, sigma_next):
        """Euler step of the sources given their sum from noise level sigma to sigma_next, (n, 4, length)."""
        if self.likelihood == "dirac":
            x = x.clone()
            x[:, self.source] += problem.residual(x)[:, 0]
        direction = (x - prior.denoise_sigma(x, sigma)) / sigma
        if self.likelihood == "dirac":
            direction = direction - direction[:, self.source, None]
        else:
            direction = direction - problem.residual(x) / (2 * self.gamma**2 * sigma)
        return x + (sigma_next - sigma) * direction
