from benchmark_utils.guidance import guide, guided_levels, heun
from benchmark_utils.sampler import PosteriorSampler


class Solver(PosteriorSampler):
    """Baseline without guidance: a draw of p(x | label) by the conditional denoiser and Heun's method,
    "Elucidating the Design Space of Diffusion-Based Generative Models", Karras, Aittala, Aila and Laine, NeurIPS 2022,
    https://arxiv.org/abs/2206.00364, algorithm 1 without churn

    What a guided method gains over this row is what it made of the weight; at weight 1 it is the answer.
    """

    name = "conditional_sample"
    parameters = {"n_steps": [None]}
    test_config = {"n_steps": 3}
    needs = {"labelled"}
    steps_are_levels = False
    PRESETS = {("*", "*"): {"n_steps": 32}}  # EDM2's sampler

    def sample(self, problem, prior, rng):
        levels = guided_levels(prior.schedule, self.n_steps)
        x = levels[0] * rng.randn(*prior.event_shape)
        return heun(guide(prior, problem.label, 1), x, self.steps(levels))
