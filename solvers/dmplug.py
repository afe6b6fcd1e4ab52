import torch

from benchmark_utils.generator import generate, generator_levels, squared_residual
from benchmark_utils.sampler import PosteriorSampler


class Solver(PosteriorSampler):
    """DMPlug: "DMPlug: A Plug-in Method for Solving Inverse Problems with Diffusion Models",
    Wang, Zhang, Li, Wan, Chen and Sun, NeurIPS 2024, https://arxiv.org/abs/2405.16749

    An optimiser, no sampler: the image is G(z), three DDIM steps (eta = 0, labels 666, 333 and 0) from a seed
    z, and
      z = argmin mean((y - A G(z))^2), by ``n_iterations`` of Adam from z ~ N(0, I).
    Nothing knows the noise of y: it converges to least squares, and what y does not see stays as it was in
    the first seed. ``clip`` bounds the denoised image, as the released code does for images.
    Departures: the last iterate is returned, where the released code reports the one nearest to the truth;
    the loss is the mean over a row, so that rows do not meet. The code's L-BFGS is not here.
    """

    name = "dmplug"
    parameters = {"n_iterations": [None], "learning_rate": [None], "clip": [None]}
    test_config = {"n_iterations": 3}
    needs = {"differentiable", "gaussian"}
    PRESETS = {
        ("*", "*"): {"n_iterations": 5000, "learning_rate": 0.01, "clip": float("inf")},  # released code
        ("*", "nonlinear_blur"): {"n_iterations": 10000},
        **{(family, "*"): {"clip": 1.0} for family in ("ffhq", "imagenet")},
    }

    def sample(self, problem, prior, rng):
        options = {"levels": generator_levels(prior.schedule, (666, 333, 0)), "clip": self.clip}
        seed = rng.randn(*prior.event_shape)
        optimiser = torch.optim.Adam([seed], lr=self.learning_rate)
        size = problem.y[0].numel()
        for _ in self.progress(range(self.n_iterations)):
            seed.grad = squared_residual(problem, prior, seed, **options)[1] / size
            optimiser.step()
        return generate(prior, seed, **options)
