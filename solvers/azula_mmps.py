from benchmark_utils.azula_adapter import AzulaSampler


class Solver(AzulaSampler):
    """MMPS as azula ships it, ``azula.guidance.MMPSDenoiser``, for comparison with ``mmps``.
    Method: "Learning Diffusion Priors from Observations by Expectation Maximization",
    Rozet, Andry, Lanusse and Louppe, NeurIPS 2024, https://arxiv.org/abs/2405.13712
    Library: "azula", Rozet et al., https://github.com/probabilists/azula

    Its guided denoiser ``D + V A^T (sigma_y^2 I + A V A^T)^{-1} (y - A D)`` with ``V = (1 - abar_t) /
    sqrt(abar_t) J``, by ``n_conjugate`` conjugate gradient iterations in float64 (azula's default is one
    iteration of GMRES), in our DDIM(eta) steps. Equal to ``mmps`` to rounding where A V A^T is a covariance:
    ``mmps`` also bounds the step of an iteration where the Jacobian of a network is none.
    """

    name = "azula_mmps"
    parameters = {"n_steps": [None], "n_conjugate": [None], "eta": [None]}
    test_config = {"n_steps": 3, "n_conjugate": 2}
    PRESETS = {("*", "*"): {"n_steps": 100, "n_conjugate": 3, "eta": 1.0}}  # those of mmps

    def guide(self, denoiser, y, A, variance):
        from azula.guidance import MMPSDenoiser  # optional
        from azula.linalg.covariance import IsotropicCovariance

        return MMPSDenoiser(denoiser, y, A, IsotropicCovariance(variance), solver="cg", iterations=self.n_conjugate)
