from benchmark_utils.flow import denoise_flow, flow_variance
from benchmark_utils.sampler import PosteriorSampler


class Solver(PosteriorSampler):
    """Flower: "Flower: A Flow-Matching Solver for Inverse Problems",
    Pourya, El Rawas and Unser, ICLR 2026, https://arxiv.org/abs/2509.26287

    In flow time (``benchmark_utils/flow.py``) ``p(x_0 | x_tau)`` is modelled as ``N(D, r^2 I)``, D the
    denoised image and ``r^2 = (1 - tau)^2 / (tau^2 + (1 - tau)^2)``. Each of ``n_steps`` uniform times, with
    the next one tau':
      x* = D + A^T (A A^T + sigma_y^2 / r^2 I)^{-1} (y - A D) + gamma N(0, (A^T A / sigma_y^2 + I / r^2)^{-1})
      x = tau' x* + (1 - tau') eps
    ``gamma`` = 0 is the default of the released code, ``flower``; 1, ``flower_cov``, draws x* from its
    posterior and is exact for N(0, I) as the steps grow. Departures: the SVD of A in place of 50 to 100
    conjugate gradient steps, one run where the paper averages five, and a prior of any training in place of a
    flow.
    """

    name = "flower"
    parameters = {"n_steps": [None], "gamma": [None]}
    test_config = {"n_steps": 3}
    needs = {"svd", "gaussian"}
    choices = {"gamma": (0, 1)}
    steps_are_levels = False
    PRESETS = {  # released code, AFHQ at 256 px
        ("*", "*"): {"n_steps": 100, "gamma": 0},
        ("*", "sr*"): {"n_steps": 500},
        ("*", "random*"): {"n_steps": 200},
    }

    def sample(self, problem, prior, rng):
        x = rng.randn(*prior.event_shape)
        for i in self.progress(range(self.n_steps)):
            tau, tau_next = i / self.n_steps, (i + 1) / self.n_steps
            x_hat, r2, sigma = denoise_flow(prior, x, tau), flow_variance(tau), problem.noise.std
            if self.gamma:
                x_hat = problem.draw_conditional(x_hat, r2**0.5, sigma, rng)
            else:
                x_hat = x_hat + problem.correction(x_hat, sigma**2 / r2)
            x = tau_next * x_hat + (1 - tau_next) * rng.randn_like(x)
        return x_hat
