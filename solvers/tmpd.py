import torch

from benchmark_utils.sampler import PosteriorSampler


class Solver(PosteriorSampler):
    """TMPD: "Tweedie Moment Projected Diffusions For Inverse Problems",
    Boys, Girolami, Pidstrigach, Reich, Mosca and Akyildiz, TMLR 2024, https://arxiv.org/abs/2310.06721

    ``p(x_0 | x_t)`` is modelled as ``N(D, C)`` with Tweedie's covariance ``C = (1 - abar_t) / sqrt(abar_t)
    J``, J the Jacobian of the denoiser, and the covariance of y is cut to a diagonal, its row sums q:
      q = A C A^T 1,    D' = D + C A^T (y - A D) / (sigma_y^2 + q)
    in a DDIM(eta) step with D'; the last step returns D'. Two vector-Jacobian products a step, of J^T as in
    the code (J is symmetric but for a network's error). No constant to tune. Exact, as the steps get short,
    for Gaussian priors for which A C A^T is diagonal; for a blur q is the response to a constant image.
    Departures: q is at least 0, which a network's need not be, and D is not clipped.
    """

    name = "tmpd"
    parameters = {"n_steps": [None], "eta": [None]}
    test_config = {"n_steps": 3}
    needs = {"linear", "gaussian"}
    ranges = {"eta": (0, 1)}
    PRESETS = {("*", "*"): {"n_steps": 100, "eta": 1.0}}  # the code's FFHQ; 1000 steps for its CIFAR-10

    def sample(self, problem, prior, rng):
        operator, schedule = problem.operator, prior.schedule
        response = operator.A_adjoint(torch.ones_like(problem.y))
        x = rng.randn(*prior.event_shape)
        for t, s in self.steps(schedule.grid(self.n_steps)):
            to_covariance = (1 - schedule.abar(t)) / schedule.abar(t) ** 0.5
            with torch.enable_grad():
                x_t = x.requires_grad_()
                x_hat = prior.denoise(x_t, t)
                (row_sums,) = torch.autograd.grad(x_hat, x_t, response, retain_graph=True)
                q = operator.A(to_covariance * row_sums).clamp(min=0)
                direction = operator.A_adjoint(problem.residual(x_hat.detach()) / (problem.noise.std**2 + q))
                (guidance,) = torch.autograd.grad(x_hat, x_t, direction)
            x_hat = x_hat.detach() + to_covariance * guidance
            x = schedule.sample_bridge(x_hat, x_t.detach(), 0, s, t, rng, self.eta)
        return x
