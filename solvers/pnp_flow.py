import torch

from benchmark_utils.flow import denoise_flow
from benchmark_utils.priors.base import expand_like
from benchmark_utils.sampler import PosteriorSampler


class Solver(PosteriorSampler):
    """PnP-Flow: "PnP-Flow: Plug-and-Play Image Restoration with Flow Matching",
    Martin, Gagneux, Hagemann and Steidl, ICLR 2025, https://arxiv.org/abs/2410.02423

    A restorer in flow time (``benchmark_utils/flow.py``). At each of ``n_steps`` uniform times tau, from 0
    on:
      u = x - step / ||A||^2 (1 - tau)^alpha grad_x ||y - A x||^2 / 2
      x = mean over ``n_average`` eps of D(tau u + (1 - tau) eps; tau)
    The noise level of y never enters. ``step`` is 1 as in the code, where sigma_y^2 cancels and ||A||
    is 1 (its super-resolution keeps one pixel in 16, a block average shrinks them); it must not exceed 2.
    ||A|| is taken for 1 where no SVD is known. The first time is 0, at which nothing of the start is left:
    the code's A^T 1 is not needed. Of an A that is not linear, where the authors have none, the gradient
    takes A^T's place.
    """

    name = "pnp_flow"
    parameters = {"n_steps": [None], "n_average": [None], "alpha": [None], "step": [None]}
    test_config = {"n_steps": 3, "n_average": 2}
    needs = {"differentiable", "gaussian"}
    steps_are_levels = False
    PRESETS = {  # released code, CelebA and AFHQ; box's alpha where it names no task
        ("*", "*"): {"n_steps": 100, "n_average": 5, "alpha": 0.5, "step": 1.0},
        ("*", "denoising"): {"alpha": 0.8},
        ("*", "sr*"): {"alpha": 0.3},
        **{("*", task): {"alpha": 0.01} for task in ("gaussian_blur*", "motion_blur", "random*")},
    }

    def sample(self, problem, prior, rng):
        x = rng.randn(*prior.event_shape)
        step = self.step
        if "svd" in problem.capabilities:  # each row's own ||A||
            singular = problem.operator.mask.expand_as(problem.operator.V_adjoint(x))
            step = step / expand_like(singular.flatten(1).amax(1), x) ** 2
        for i in self.progress(range(self.n_steps)):
            tau = i / self.n_steps
            with torch.enable_grad():
                x = x.detach().requires_grad_()
                (gradient,) = torch.autograd.grad(problem.residual(x).square().sum() / 2, x)
            u = x.detach() - step * (1 - tau) ** self.alpha * gradient
            draws = [denoise_flow(prior, tau * u + (1 - tau) * rng.randn_like(u), tau) for _ in range(self.n_average)]
            x = torch.stack(draws).mean(0)
        return x
