from benchmark_utils.guidance import guided_levels
from benchmark_utils.sampler import PosteriorSampler


class Solver(PosteriorSampler):
    """CFG++: "CFG++: Manifold-Constrained Classifier Free Guidance for Diffusion Models",
    Chung, Kim, Park, Nam and Ye, ICLR 2025, https://arxiv.org/abs/2406.08070

    DDIM whose denoised signal is interpolated and whose noise is the unconditional one (algorithm 2):
      x' = D_u + lam (D_c - D_u) + (sigma' / sigma) (x - D_u),     lam in [0, 1]
    It has no weight w: it equals Euler steps of CFG with ``w = lam sigma / (sigma - sigma')``, which is lam at the last
    step and the larger before, the finer the grid: its law depends on the grid, and the problem's weight is not used.
    ``sampler`` has the noise levels of CFG's: EDM's grid, or for texts the prior's own; the steps are those above.
    """

    name = "cfgpp"
    parameters = {"lam": [None], "n_steps": [None], "sampler": [None]}
    test_config = {"n_steps": 3, "dataset": {"name": "labelled_mixture"}}
    needs = {"labelled"}
    ranges = {"lam": (0, 1)}
    choices = {"sampler": ("heun", "ddim")}
    steps_are_levels = False
    PRESETS = {
        ("*", "*"): {"lam": 0.3, "n_steps": 32, "sampler": "heun"},  # lam: CFGiG's released code
        ("text", "*"): {"n_steps": 200, "sampler": "ddim"},
    }

    def sample(self, problem, prior, rng):
        levels = guided_levels(prior.schedule, self.n_steps, self.sampler)
        x = levels[0] * rng.randn(*prior.event_shape)
        for sigma, lower in self.steps(levels):
            conditional = prior.denoise_sigma(x, sigma, problem.label)
            unconditional = prior.denoise_sigma(x, sigma)
            x_hat = unconditional + self.lam * (conditional - unconditional)
            x = x_hat + lower / sigma * (x - unconditional)
        return x
