from benchmark_utils.guidance import ancestral, choose_weight, guide, guided_levels, heun
from benchmark_utils.sampler import PosteriorSampler

DEFAULTS = {"weight": "problem", "n_steps": 32, "n_start": 12, "n_gibbs": 2, "sigma_gibbs": 1.0}
DEFAULTS |= {"form": "paper", "delta": 0.1, "sampler": "heun", "preset": None}


class Solver(PosteriorSampler):
    """CFGiG: "Conditional Diffusion Models with Classifier-Free Gibbs-like Guidance",
    Moufad, Shouraki, Durmus, Hirtz, Moulines, Olsson and Janati, 2025, https://arxiv.org/abs/2505.21101

    1. x_0 by the conditional model without guidance, in ``n_start`` steps (and those that the rounds leave over).
    2. ``n_gibbs`` times: ``x = x_0 + sigma_gibbs eps``, then the guided ODE from sigma_gibbs to 0 in
       ``(n_steps - n_start) // n_gibbs`` steps gives the new x_0.
    At sigma <= sigma_gibbs the missing Renyi term is small; the fresh noise undoes part of guidance's bias. As
    sigma_gibbs falls and the rounds rise as 1 / sigma_gibbs^2 it tends to ``p(x | label)^w p(x)^(1 - w)``; more rounds
    at one sigma_gibbs keep its bias. Heun's method on EDM's grid or, for texts, DDIM on the prior's levels. A round
    starts at the prior's largest level if sigma_gibbs is above it, with DDIM at the largest level up to sigma_gibbs.

    ``form`` is the denoiser of a round: "paper" is D_w; the "delayed" forms have two noise levels,
      sigma_1^2 = w sigma^2 / (1 + delta),   sigma_2^2 = (w - 1) sigma^2 / delta,
    of which D is ``(1 + delta) D_c(x; sigma_1) - delta D_u(x; sigma_2)`` ("delayed", the score's own weights, any
    delta > 0; delta = w - 1 is D_w) or ``w D_c - (w - 1) D_u`` as the released code combines them ("delayed-code",
    right at delta = w - 1 only). Published for them: ``preset="delayed"``, weight 2.3.
    """

    name = "cfgig"
    parameters = {name: [None] for name in DEFAULTS}
    test_config = {"n_steps": 6, "n_start": 2, "dataset": {"name": "labelled_mixture"}}
    needs = {"labelled"}
    choices = {"weight": ("problem", float), "form": ("paper", "delayed", "delayed-code"), "sampler": ("heun", "ddim")}
    steps_are_levels = False
    PRESETS = {
        ("*", "*"): DEFAULTS,  # the released configurations, for images
        ("text", "*"): {"n_steps": 200, "sampler": "ddim"},  # the same, for audio
        ("delayed", "imagenet"): {"form": "delayed", "sigma_gibbs": 2.0, "weight": 2.3},
        **{("delayed", family): {"form": "delayed", "sigma_gibbs": 2.0} for family in ("mixture", "digits")},
    }

    def sample(self, problem, prior, rng):
        n_round = (self.n_steps - self.n_start) // self.n_gibbs
        if n_round < 1:
            raise ValueError(
                f"{self.name}: n_steps={self.n_steps} leaves no step for each of n_gibbs={self.n_gibbs} rounds after "
                f"n_start={self.n_start}: n_steps must be at least {self.n_start + self.n_gibbs}"
            )
        start = guided_levels(prior.schedule, self.n_steps - n_round * self.n_gibbs, self.sampler)
        levels = guided_levels(prior.schedule, n_round, self.sampler, self.sigma_gibbs)
        solve = heun if self.sampler == "heun" else ancestral
        denoise = self.round_denoiser(prior, problem.label, choose_weight(self.weight, problem))
        x = start[0] * rng.randn(*prior.event_shape)
        x_0 = solve(guide(prior, problem.label, 1), x, self.steps(start))
        for _ in self.progress(range(self.n_gibbs)):
            x_0 = solve(denoise, x_0 + levels[0] * rng.randn_like(x_0), zip(levels, levels[1:], strict=False))
        return x_0

    def round_denoiser(self, prior, label, weight):
        """The denoiser of a round, as a function (x, sigma)."""
        if self.form == "paper" or weight == 1:
            return guide(prior, label, weight)
        if weight < 1 or self.delta == 0:
            raise ValueError(f"{self.name}: form={self.form} needs a weight of 1 or more and a delta above 0")
        of_conditional = (weight / (1 + self.delta)) ** 0.5
        of_unconditional = ((weight - 1) / self.delta) ** 0.5
        extra = self.delta if self.form == "delayed" else weight - 1

        def denoise(x, sigma):
            conditional = prior.denoise_sigma(x, sigma * of_conditional, label)
            return (1 + extra) * conditional - extra * prior.denoise_sigma(x, sigma * of_unconditional)

        return denoise
