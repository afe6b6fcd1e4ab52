from benchmark_utils.azula_adapter import AzulaSampler


class Solver(AzulaSampler):
    """TMPD as azula ships it, ``azula.guidance.TMPDenoiser``.
    Method: "Tweedie Moment Projected Diffusions for Inverse Problems",
    Boys, Girolami, Pidstrigach, Reich, Mosca and Akyildiz, TMLR 2024, https://arxiv.org/abs/2310.06721
    Library: "azula", Rozet et al., https://github.com/probabilists/azula

    Its guided denoiser ``D + V A^T (y - A D) / (sigma_y^2 + A V A^T 1)`` with ``V = (1 - abar_t) /
    sqrt(abar_t) J``, J the Jacobian of the denoiser, in our DDIM(eta) steps: the row sums of A V A^T stand
    for its diagonal. Exact, as the steps get short, for a Gaussian prior whose A V A^T is diagonal. Nothing
    keeps a row sum from being negative.
    """

    name = "azula_tmpd"
    parameters = {"n_steps": [None], "eta": [None]}
    test_config = {"n_steps": 3}
    PRESETS = {("*", "*"): {"n_steps": 100, "eta": 1.0}}  # those of tmpd

    def guide(self, denoiser, y, A, variance):
        from azula.guidance import TMPDenoiser  # optional

        return TMPDenoiser(denoiser, y, A, variance)
