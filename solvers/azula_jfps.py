from benchmark_utils.azula_adapter import AzulaSampler


class Solver(AzulaSampler):
    """JFPS as azula ships it, ``azula.guidance.JFPSDenoiser``: Jacobian-free posterior sampling.
    Library: "azula", Rozet et al., 2025, https://github.com/probabilists/azula

    Its guided denoiser ``D + C A^T (sigma_y^2 I + A C A^T)^{-1} (y - A D)`` in our DDIM(eta) steps, where
      C = (1 / signal_variance + abar_t / (1 - abar_t))^{-1} I
    is the covariance of x_0 given x_t of a Gaussian prior, in place of the Jacobian. The inverse is
    ``n_conjugate`` conjugate gradient iterations, which need no network (azula's default of one is biased).
    Exact, as the steps get short, for a prior N(0, signal_variance I), biased for any other. azula takes other
    covariances too; here it is isotropic.
    """

    name = "azula_jfps"
    parameters = {"n_steps": [None], "n_conjugate": [None], "eta": [None], "signal_variance": [None]}
    test_config = {"n_steps": 3, "n_conjugate": 2}
    PRESETS = {  # those of jfps: one over its precision
        ("*", "*"): {"n_steps": 100, "n_conjugate": 50, "eta": 1.0, "signal_variance": 1.0},
        ("ffhq", "*"): {"signal_variance": 1 / 6},
        ("imagenet", "*"): {"signal_variance": 0.2},
        ("mixture", "*"): {"signal_variance": 129.0},
    }

    def guide(self, denoiser, y, A, variance):
        from azula.guidance import JFPSDenoiser  # optional
        from azula.linalg.covariance import IsotropicCovariance

        covariances = IsotropicCovariance(variance), IsotropicCovariance(self.signal_variance)
        return JFPSDenoiser(denoiser, y, A, *covariances, iterations=self.n_conjugate)
