from benchmark_utils.guidance import choose_weight, guide, guided_levels
from benchmark_utils.sampler import PosteriorSampler

DEFAULTS = {"weight": "problem", "n_steps": 64, "n_langevin": 16, "step_size": 0.2}


class Solver(PosteriorSampler):
    """PCG: "Classifier-Free Guidance is a Predictor-Corrector", Bradley and Nakkiran, 2024,
    https://arxiv.org/abs/2408.09000

    At each noise level a DDIM step of the conditional model, the predictor,
      x' = D_c + (sigma' / sigma) (x - D_c),     D_c = E[x_0 | x, label]
    then ``n_langevin`` Langevin steps, the corrector, of size ``step_size`` sigma'^2, on
      q_sigma(x) ∝ p_sigma(x | label)^w p_sigma(x)^(1 - w),     grad log q_sigma = (D_w(x) - x) / sigma^2
    which is no noised version of any law, but at sigma = 0 the law that guidance aims at. With enough corrector steps
    the draws follow it down. Departures: EDM's grid, and a step of Langevin's whose size is chosen here: the label
    probability on label 1 of ``labelled_mixture`` moves by .002 from 0.05 to 0.2, between which the variance grows.
    """

    name = "pcg"
    parameters = {name: [None] for name in DEFAULTS}
    test_config = {"n_steps": 3, "n_langevin": 2, "dataset": {"name": "labelled_mixture"}}
    needs = {"labelled"}
    choices = {"weight": ("problem", float)}
    steps_are_levels = False
    PRESETS = {("*", "*"): DEFAULTS}  # chosen here

    def sample(self, problem, prior, rng):
        denoise = guide(prior, problem.label, choose_weight(self.weight, problem))
        levels = guided_levels(prior.schedule, self.n_steps)
        x = levels[0] * rng.randn(*prior.event_shape)
        for sigma, lower in self.steps(levels):
            x_hat = prior.denoise_sigma(x, sigma, problem.label)
            x = x_hat + lower / sigma * (x - x_hat)
            for _ in range(self.n_langevin if lower > 0 else 0):
                drift = denoise(x, lower) - x
                x = x + self.step_size * drift + (2 * self.step_size) ** 0.5 * lower * rng.randn_like(x)
        return x
