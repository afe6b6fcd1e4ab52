import torch

from benchmark_utils.priors.base import expand_like
from benchmark_utils.sampler import PosteriorSampler
from benchmark_utils.schedule import karras_levels

PROBE = 1e-3  # of the finite difference for A's directional derivative
NONLINEAR = ("phase_retrieval", "nonlinear_blur", "hdr", "jpeg*")


def dot(a, b):
    """Inner product of each row, (n,)."""
    return (a * b).flatten(1).sum(1)


class Solver(PosteriorSampler):
    """FAST-DIPS: "FAST-DIPS: Adjoint-Free Analytic Steps and Hard-Constrained Likelihood Correction for
    Diffusion-Prior Inverse Problems", Kim, Shin and Lim, ICLR 2026, https://arxiv.org/abs/2603.01591

    At each of ``n_levels`` levels of a poly-7 grid from ``sigma_max`` to ``sigma_min``, whose last is left
    out, x starts at the denoised image D, v at A(D) and u at 0, and scaled ADMM lowers ``||x - D||^2 / (2
    sigma^2)`` subject to ``||A(x) - y|| <= radius``, in ``n_admm`` rounds:
      x: ``n_inner`` steps along the gradient g of ||x - D||^2 / (2 sigma^2) + rho / 2 ||A(x) - v + u||^2
      v = projection of A(x) + u on the ball,   u += A(x) - v
    then ``x + sigma' eps``. A step ends at the minimum along g for a linearised A, at most 1 long. The
    directional derivative of an A that is not linear is ``(A(x + 1e-3 g) - A(x)) / 1e-3``, and the step is
    halved up to 8 times while the energy rises; for a linear A it never does. The result is the last D,
    as in the code for pixels, which clamps it too; here it is not clipped. ``radius`` is the code's, of the
    whole residual: the noise alone is longer, so that y is fitted as far as ADMM converges. Latents: the
    code corrects decoded images at high levels and z below, and returns the corrected z; here z is corrected
    at every level, and D is returned.
    """

    name = "fast_dips"
    parameters = {"n_levels": [None], "sigma_max": [None], "sigma_min": [None], "n_admm": [None], "n_inner": [None]}
    parameters |= {"rho": [None], "radius": [None]}
    test_config = {"n_levels": 3, "n_admm": 2, "n_inner": 2}
    needs = {"differentiable", "gaussian"}
    PRESETS = {  # released code, FFHQ and ImageNet
        ("*", "*"): {"n_levels": 75, "sigma_max": 100.0, "sigma_min": 0.1, "n_admm": 3, "n_inner": 1}
        | {"rho": 200.0, "radius": 0.05},
        **{("*", task): {"n_levels": 50, "n_inner": 2} for task in ("gaussian_blur*", "motion_blur")},
        **{("*", task): {"n_levels": 150, "n_admm": 2, "n_inner": 5} for task in NONLINEAR},  # jpeg as they are
        **{(family, "hdr"): {"rho": 5.0} for family in ("ffhq", "imagenet")},
        ("ffhq_latent", "*"): {"n_levels": 50, "sigma_max": 10.0, "n_admm": 5, "n_inner": 3},
        **{("ffhq_latent", task): {"n_levels": 25, "n_admm": 10} for task in NONLINEAR},
    }

    def sample(self, problem, prior, rng):
        levels = karras_levels(self.sigma_max, self.sigma_min, self.n_levels + 1)[:-1]
        x = self.sigma_max * rng.randn(*prior.event_shape)
        for sigma, next_sigma in self.steps([*levels, 0.0]):
            x_hat = prior.denoise_sigma(x, sigma)
            if next_sigma > 0:
                x = self.correct(problem, x_hat, sigma) + next_sigma * rng.randn_like(x)
        return x_hat

    def correct(self, problem, x_hat, sigma):
        """The image that ADMM leaves, (n, *event)."""
        x, v = x_hat, problem.A(x_hat)
        u, radius = torch.zeros_like(v), self.radius
        for _ in range(self.n_admm):
            for _ in range(self.n_inner):
                x = self.descend(problem, x, x_hat, v - u, sigma)
            measured = problem.A(x)
            away = measured + u - problem.y
            v = problem.y + expand_like(radius / dot(away, away).sqrt().clamp(min=radius), away) * away
            u = u + measured - v
        return x

    def descend(self, problem, x, x_hat, target, sigma):
        """One gradient step towards x_hat and ``A(x) = target``."""
        with torch.enable_grad():
            x_0 = x.detach().requires_grad_()
            measured = problem.A(x_0)
            misfit = measured - target
            (pullback,) = torch.autograd.grad(misfit.square().sum() / 2, x_0)
        misfit = misfit.detach()
        g = (x - x_hat) / sigma**2 + self.rho * pullback
        linear = "linear" in problem.capabilities
        image = problem.A(g) if linear else (problem.A(x + PROBE * g) - measured.detach()) / PROBE
        slope = dot(x - x_hat, g) / sigma**2 + self.rho * dot(misfit, image)
        curvature = dot(g, g) / sigma**2 + self.rho * dot(image, image)
        step = (slope / curvature.clamp(min=torch.finfo(x.dtype).tiny)).clamp(0, 1)

        def energy(x):
            away = problem.A(x) - target
            return dot(x - x_hat, x - x_hat) / sigma**2 + self.rho * dot(away, away)

        before = None if linear else energy(x)
        for _ in range(0 if linear else 8):
            step = torch.where(energy(x - expand_like(step, x) * g) > before, step / 2, step)
        return x - expand_like(step, x) * g
