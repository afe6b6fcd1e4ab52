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
    ranges = {"zeta": (0, 1)}
    # the MGDM paper's DiffPIR (its section B.4), in these units; the released code has 100 steps,
    # blurs lam 1.75 zeta 0.3, inpainting lam 0.25 zeta 1
    PRESETS = {
        ("*", "*"): {"n_steps": 1000, "lam": 1.0, "zeta": 0.1},
        **{("*", mask): {"zeta": 1.0} for mask in ("box", "half", "random*")},
        ("audio", "*"): {"zeta": 1.0},
        ("ecg", "*"): {"n_steps": 100, "lam": 6.0, "zeta": 0.5},  # lam and zeta of the ECG follow-up of MGPS
    }

    def sample(self, problem, prior, rng):
        schedule, abar = prior.schedule, prior.schedule.abar
        x_t = rng.randn(*prior.event_shape)
        for t, s in self.steps(schedule.grid(self.n_steps)):
            x_hat = prior.denoise(x_t, t)
            if s == 0:
                return x_hat
            x_hat = x_hat + problem.correction(x_hat, self.lam * (problem.noise.std / schedule.sigma(t)) ** 2)
            eps = (x_t - abar(t) ** 0.5 * x_hat) / (1 - abar(t)) ** 0.5
            eps = (1 - self.zeta) ** 0.5 * eps + self.zeta**0.5 * rng.randn(*prior.event_shape)
            x_t = abar(s) ** 0.5 * x_hat + (1 - abar(s)) ** 0.5 * eps
