from benchmark_utils.sampler import PosteriorSampler


class Solver(PosteriorSampler):
    """JFPS: "Gaussian is All You Need: A Unified Framework for Solving Inverse Problems via Diffusion Posterior
    Sampling", Yismaw, Kamilov and Asif, arXiv 2024, https://arxiv.org/abs/2409.08906

    ``p(x_0 | x_t)`` is modelled as ``N(D, v I)`` with ``v = 1 / (p + abar_t / (1 - abar_t))``, the covariance
    of x_0 under a prior ``N(mu, I / p)``; no gradient passes through the denoiser D.
      h(m) = A^T (A A^T + sigma_y^2 / v I)^{-1} (y - A m)
      form="jfps"    a DDIM(eta) step with D + h(D) for D
      form="codps_plus"  x_s = x' + c_t sqrt(abar_t) / (1 - abar_t) h(D), x' the DDIM(eta) step; the last step is x'
      form="codps"   so with m = v (sqrt(abar_t) / (1 - abar_t) x' + p D), in the last step too
    The paper's methods are the last two, by ``preset``; the first is the "Jacobian-free posterior sampling"
    of the package azula, the second with the c_t that makes it a score. c_t is ``scale``, over ``divisor`` in
    the last ``late`` steps. ``precision`` is p: form="jfps" is exact for N(0, I / p) as the steps grow,
    biased for another p. No truth is looked at: PRESETS has a constant p for each family. Departures: h is
    exact by the SVD (azula: one conjugate gradient step by default, which is biased; CoDPS: FFTs of
    circularly padded blurs); CoDPS clips D and has the learned variance in its DDPM steps.
    """

    name = "jfps"
    parameters = {"n_steps": [None], "eta": [None], "precision": [None], "form": [None]}
    parameters |= {"scale": [None], "late": [None], "divisor": [None], "preset": [None]}
    test_config = {"n_steps": 3}
    needs = {"svd", "gaussian"}
    choices = {"form": ("jfps", "codps", "codps_plus")}
    ranges = {"eta": (0, 1), "divisor": (1, 1000)}
    PRESETS = {
        ("*", "*"): {"n_steps": 100, "eta": 1.0, "precision": 1.0, "form": "jfps"}
        | {"scale": 0.05, "late": 15, "divisor": 10.0, "preset": None},
        # one over the mean variance of a pixel: .17 in 16 draws of faces64; 2 * .226 squared, ImageNet's usual scaling
        ("ffhq", "*"): {"precision": 6.0},
        ("imagenet", "*"): {"precision": 5.0},
        ("mixture", "*"): {"precision": 1 / 129},  # one over the variance of a coordinate, all weights alike
        # the released configurations for FFHQ, sigma_y = .05; those for ImageNet are not here
        ("codps", "*"): {"form": "codps", "n_steps": 1000, "scale": 0.01, "late": 200, "precision": 0.1},
        ("codps", "sr*"): {"late": 100},
        ("codps", "random*"): {"scale": 0.4, "late": 80, "divisor": 1000.0, "precision": 500.0},
        ("codps_plus", "*"): {"form": "codps_plus", "precision": 1.0},
        ("codps_plus", "motion_blur"): {"divisor": 20.0},
        ("codps_plus", "sr*"): {"divisor": 5.0, "precision": 2.0},
        ("codps_plus", "random*"): {"scale": 0.4, "late": 10, "divisor": 100.0, "precision": 0.0},
    }

    def sample(self, problem, prior, rng):
        schedule, p = prior.schedule, self.precision
        x = rng.randn(*prior.event_shape)
        levels = schedule.grid(self.n_steps)
        for i, (t, s) in enumerate(self.steps(levels)):
            signal_to_noise = schedule.sigma(t) ** -2
            v = 1 / (p + signal_to_noise)
            x_hat, ridge = prior.denoise(x, t), problem.noise.std**2 / v
            if self.form == "jfps":
                x_hat = x_hat + problem.correction(x_hat, ridge)
            x_s = schedule.sample_bridge(x_hat, x, 0, s, t, rng, self.eta)
            if self.form == "jfps" or self.form == "codps_plus" and s == 0:
                x = x_s
                continue
            weight = signal_to_noise / schedule.abar(t) ** 0.5  # sqrt(abar_t) / (1 - abar_t)
            mean = x_hat if self.form == "codps_plus" else v * (weight * x_s + p * x_hat)
            c_t = self.scale / (self.divisor if self.n_steps - 1 - i < self.late else 1)
            x = x_s + c_t * weight * problem.correction(mean, ridge)
        return x
