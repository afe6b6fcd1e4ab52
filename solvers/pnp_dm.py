from itertools import pairwise

import torch

from benchmark_utils.sampler import PosteriorSampler
from benchmark_utils.schedule import karras_levels

N_PRIOR_LEVELS, PRIOR_SIGMA_MAX = 100, 80.0  # the prior step walks the part of this EDM grid that lies below rho
COLOUR_IMAGES = {  # the paper's settings at noise 0.05, with the Langevin steps of its nonlinear problems
    "n_iterations": 100,
    "rho_max": 10.0,
    "decay": 0.9,
    "rho_min": 0.3,
    "likelihood": "auto",
    "n_langevin": 100,
    "step_size": 1e-4,
    "sigma_min": 0.002,
}


class Solver(PosteriorSampler):
    """PnP-DM: "Principled Probabilistic Imaging using Diffusion Models as Plug-and-Play Priors",
    Wu, Sun, Chen, Zhang, Yue and Bouman, NeurIPS 2024, https://arxiv.org/abs/2405.18782

    Algorithm 1, a Gibbs sampler of ``p(x) N(z; x, rho^2 I) p(y | z)`` in (z, x), with rho annealed as
    ``max(rho_max decay^k, rho_min)``:
      z ~ p(y | z) N(z; x, rho^2 I)     exactly by the SVD, or by ``n_langevin`` unadjusted Langevin steps
      x ~ p(x_0 | x_0 + rho eps = z)    by the reverse diffusion of EDM from noise level rho to 0
    At a fixed rho the law of x tends to ``p(x) N(y; A x, sigma^2 I + rho^2 A A^T)`` for linear A.
    ``likelihood="auto"`` uses the SVD where the operator has one and Langevin elsewhere; ``"langevin"`` forces it.
    The coupling of the Langevin step is the current rho and pulls z towards x (the code of a later comparison has
    the first rho and the opposite sign). The reverse diffusion is the ancestral sampler on EDM's grid below rho;
    it starts at rho itself, where the released code starts at the next level of the grid.
    """

    name = "pnp_dm"
    parameters = {name: [None] for name in COLOUR_IMAGES}
    test_config = {"n_iterations": 2, "rho_max": 0.3, "n_langevin": 2}
    needs = {"differentiable", "gaussian"}
    choices = {"likelihood": ("auto", "langevin")}
    PRESETS = {
        ("*", "*"): COLOUR_IMAGES,
        ("*", "phase_retrieval"): {"decay": 0.95, "rho_min": 0.1},  # MGDM paper's released code
        # chosen here: with 1e-4 values clipped on the wrong side stay there (PSNR 12.9 against 20.7 dB on a face)
        ("*", "hdr"): {"step_size": 1e-3},
        # MGDM paper's released code, but for its Langevin steps; EDM's smallest level has to lie below rho
        ("audio", "*"): {"rho_min": 1e-3, "sigma_min": 1e-4},
        # modes 8 apart: with the paper's cooling the mode is chosen in the first sweeps
        ("mixture", "*"): {"n_iterations": 300, "decay": 0.98, "rho_min": 0.1},
    }

    def sample(self, problem, prior, rng):
        exact = self.likelihood == "auto" and "svd" in problem.capabilities
        x = rng.randn(*prior.event_shape)
        for k in self.progress(range(self.n_iterations)):
            rho = max(self.rho_max * self.decay**k, self.rho_min)
            if exact:
                z = problem.draw_conditional(x, rho, problem.noise.std, rng)
            else:
                z = self.langevin(problem, rng, x, rho)
            x = self.sample_prior(prior, rng, z, rho)
        return x

    def langevin(self, problem, rng, x, rho):
        z = x
        for _ in range(self.n_langevin):
            with torch.enable_grad():
                z = z.detach().requires_grad_()
                (score,) = torch.autograd.grad(problem.log_likelihood(z).sum(), z)
            drift = score - (z.detach() - x) / rho**2
            z = z.detach() + self.step_size * drift + (2 * self.step_size) ** 0.5 * rng.randn_like(x)
        return z

    def sample_prior(self, prior, rng, z, rho):
        """``x ~ p(x_0 | x_0 + rho eps = z)`` by ancestral steps; the last one returns the denoiser's output."""
        grid = karras_levels(PRIOR_SIGMA_MAX, self.sigma_min, N_PRIOR_LEVELS)
        levels = [rho, *(sigma for sigma in grid if sigma < rho), 0.0]
        x = z
        for sigma, sigma_next in pairwise(levels):
            x_hat = prior.denoise_sigma(x, sigma)
            ratio = (sigma_next / sigma) ** 2
            x = x_hat + ratio * (x - x_hat) + sigma_next * (1 - ratio) ** 0.5 * rng.randn_like(x)
        return x
