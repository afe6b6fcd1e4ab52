from itertools import pairwise

from benchmark_utils.sampler import PosteriorSampler


class Solver(PosteriorSampler):
    """DiffPIR: "Denoising Diffusion Models for Plug-and-Play Image Restoration",
    Zhu, Zhang, Liang, Cao, Wen, Timofte and Van Gool, CVPR Workshops 2023, https://arxiv.org/abs/2305.08995

    Algorithm 1, with ``sigma_t^2 = (1 - abar_t) / abar_t``:
      rho_t = lambda sigma_y^2 / sigma_t^2,   x_hat = argmin_x ||y - A x||^2 + rho_t ||x - D(x_t)||^2   (eq. 13)
      x_s = sqrt(abar_s) x_hat + sqrt(1 - abar_s) (sqrt(1 - zeta) eps_hat + sqrt(zeta) z)                (eq. 15)
    where eps_hat is the noise that x_hat implies. The last step returns D. The minimum is exact, from the SVD of A.
    ``lam`` is lambda with sigma_y and sigma_t both on [-1, 1]; the released code has sigma_y on [0, 1], so that
    its lambda is four times this one. ``zeta`` is the part of the noise (in variance) that is fresh.
    """

    name = "diffpir"
    parameters = {"n_steps": [None], "lam": [None], "zeta": [None]}
    test_config = {"n_steps": 3}
    needs = {"svd", "gaussian"}
    # the MGDM paper's DiffPIR (its section B.4), in these units; the released code has 100 steps,
    # blurs lam 1.75 zeta 0.3, inpainting lam 0.25 zeta 1
    PRESETS = {
        ("*", "*"): {"n_steps": 1000, "lam": 1.0, "zeta": 0.1},
        ("*", "box"): {"zeta": 1.0},
        ("*", "half"): {"zeta": 1.0},
        ("*", "random"): {"zeta": 1.0},
        ("audio", "*"): {"zeta": 1.0},
    }

    def sample(self, problem, prior, rng):
        schedule, abar = prior.schedule, prior.schedule.abar
        levels = schedule.grid(self.n_steps)
        x_t = rng.randn(*prior.event_shape)
        for t, s in self.progress(list(pairwise(levels))):
            x_hat = prior.denoise(x_t, t)
            if s == 0:
                return x_hat
            x_hat = self.proximal_point(problem, x_hat, self.lam * (problem.noise.std / schedule.sigma(t)) ** 2)
            eps = (x_t - abar(t) ** 0.5 * x_hat) / (1 - abar(t)) ** 0.5
            eps = (1 - self.zeta) ** 0.5 * eps + self.zeta**0.5 * rng.randn(*prior.event_shape)
            x_t = abar(s) ** 0.5 * x_hat + (1 - abar(s)) ** 0.5 * eps

    def proximal_point(self, problem, x, rho):
        """``(A^T A + rho I)^{-1} (A^T y + rho x)``, as a correction of x: exact where A sees nothing."""
        operator = problem.operator
        innovation = operator.U_adjoint(problem.y) - operator.mask * operator.V_adjoint(x)
        return x + operator.V(operator.mask / (operator.mask**2 + rho) * innovation)
