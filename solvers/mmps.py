import torch

from benchmark_utils.sampler import PosteriorSampler


class Solver(PosteriorSampler):
    """MMPS: "Learning Diffusion Priors from Observations by Expectation Maximization",
    Rozet, Andry, Lanusse and Louppe, NeurIPS 2024, https://arxiv.org/abs/2405.13712

    Moment matching posterior sampling (section 4.2): ``p(x_0 | x_t)`` is modelled as ``N(D(x_t), V)`` with its true
    covariance ``V = (1 - abar_t) / sqrt(abar_t) J``, J the Jacobian of the denoiser, so that
      grad log p(y | x_t) = J^T A^T (sigma_y^2 I + A V A^T)^{-1} (y - A D(x_t)).
    The inverse is ``n_conjugate`` conjugate gradient iterations, one vector-Jacobian product each (J is symmetric).
    The denoised image becomes ``D + (1 - abar_t) / sqrt(abar_t)`` times this score in a DDIM(eta) step. Exact, as
    the steps get short, for every Gaussian prior once the conjugate gradients have converged.
    """

    name = "mmps"
    parameters = {"n_steps": [None], "n_conjugate": [None], "eta": [None]}
    test_config = {"n_steps": 3, "n_conjugate": 2}
    needs = {"linear", "gaussian"}
    ranges = {"eta": (0, 1)}
    # chosen here: the paper's image settings are for other tasks
    PRESETS = {("*", "*"): {"n_steps": 100, "n_conjugate": 3, "eta": 1.0}}

    def sample(self, problem, prior, rng):
        schedule = prior.schedule
        x = rng.randn(*prior.event_shape)
        for t, s in self.steps(schedule.grid(self.n_steps)):
            with torch.enable_grad():
                x_t = x.requires_grad_()
                x_hat = prior.denoise(x_t, t)
            to_covariance = (1 - schedule.abar(t)) / schedule.abar(t) ** 0.5
            correction = to_covariance * self.score(problem, x_hat, x_t, to_covariance)
            x_t = x_t.detach()
            x = schedule.sample_bridge(x_hat.detach() + correction, x_t, 0, s, t, rng, self.eta)
        return x

    def score(self, problem, x_hat, x_t, to_covariance):
        operator, variance = problem.operator, problem.noise.std**2

        def jacobian(v):
            return torch.autograd.grad(x_hat, x_t, v, retain_graph=True)[0]

        def covariance(v):
            return variance * v + operator.A(to_covariance * jacobian(operator.A_adjoint(v)))

        residual = problem.residual(x_hat.detach())
        return jacobian(operator.A_adjoint(self.solve(covariance, residual, variance)))

    def solve(self, covariance, b, smallest):
        """Conjugate gradients for ``covariance(v) = b``, each row on its own; its eigenvalues are >= ``smallest``."""

        def dot(u, v):
            return (u * v).flatten(1).sum(1).view(-1, *[1] * (b.ndim - 1))

        tiny = torch.finfo(b.dtype).tiny
        v, r, p, r2 = torch.zeros_like(b), b, b, dot(b, b)
        for _ in range(self.n_conjugate):
            image = covariance(p)
            # a network's Jacobian need not be a covariance: the bound keeps the step positive and finite
            step = r2 / torch.maximum(dot(p, image), smallest * dot(p, p)).clamp(min=tiny)
            v, r = v + step * p, r - step * image
            r2, previous = dot(r, r), r2
            p = r + r2 / previous.clamp(min=tiny) * p
        return v
