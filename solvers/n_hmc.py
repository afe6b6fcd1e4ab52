import torch

from benchmark_utils.generator import generator_levels, squared_residual
from benchmark_utils.priors.base import expand_like
from benchmark_utils.sampler import PosteriorSampler


class Solver(PosteriorSampler):
    """N-HMC: "Noise-Adaptive Diffusion Sampling for Inverse Problems Without Task-Specific Tuning",
    Xia, Tanomkiattikun, Zhen and Gu, ICLR 2026, https://arxiv.org/abs/2604.16919

    A Markov chain over the seed z of a DDIM generator G (eta = 0, ``n_generator`` steps, the first at label
    750). Move k draws a momentum p ~ N(0, I), makes ``n_leapfrog`` leapfrog steps of length e, and accepts
    their end with probability min(1, exp(-change of U + ||p||^2 / 2)), for
      U(z) = ||z||^2 / 2 + ||y - A G(z)||^2 / (2 s_k^2),
      s_k = sigma_y + ``height`` max(0, 1 - k / n_anneal)^``power``.
    e starts at ``step_size``, becomes ``late_step`` at move ``late_from`` if it is more than twice that, and
    shrinks by 5 % at each rejection before move ``n_anneal``; ``n_final`` moves follow. As these grow, G(z)
    is a draw of the posterior under the prior that *G generates*, which is much narrower than the data's (2
    steps shrink N(0, I) by .437). ``rejections="move"``, the default, is this valid chain, in which a
    rejected move counts. ``"redraw"`` is the published schedule: k counts accepted moves, any decrease of U
    is accepted before n_anneal, five rejections in a row end the chain. Its law is no posterior, and the host
    asks once a move whether all rows have ended.
    Departures: step lengths and tests are each row's own; the gradient of the last state is kept (20
    evaluations of G a move, not 21). The paper's variant for unknown noise is not here.
    """

    name = "n_hmc"
    parameters = {
        **{name: [None] for name in ("n_generator", "n_anneal", "n_final", "n_leapfrog", "step_size", "late_step")},
        **{name: [None] for name in ("late_from", "height", "power", "rejections", "clip")},
    }
    test_config = {"n_anneal": 1, "n_final": 1, "n_leapfrog": 2}
    needs = {"differentiable", "gaussian"}
    choices = {"rejections": ("move", "redraw")}
    # released code, whose sigma_y is on [0, 1] and doubled: its .05 is .1 here.
    # n_final, of which it has 1, is chosen here
    PRESETS = {
        ("*", "*"): {
            "n_generator": 2,
            "n_anneal": 80,
            "n_final": 20,
            "n_leapfrog": 20,
            "step_size": 0.05,
            "late_step": 0.01,
            "late_from": 10,
            "height": 3.0,
            "power": 2.0,
            "rejections": "move",
            "clip": float("inf"),
        },
        ("*", "phase_retrieval"): {"late_from": 50, "height": 20.0, "power": 1.0},
        **{(family, "*"): {"clip": 1.0} for family in ("ffhq", "imagenet")},
        # chosen here: a chain that mixes in a few moves where the seed has few dimensions
        **{(family, "*"): {"late_step": 0.05} for family in ("gaussian", "mixture")},
    }

    def sample(self, problem, prior, rng):
        labels = [750 * (self.n_generator - i) // self.n_generator for i in range(self.n_generator)]
        options = {"levels": generator_levels(prior.schedule, labels), "clip": self.clip, "rederive": False}
        redraw, n_moves = self.rejections == "redraw", self.n_anneal + self.n_final
        z = rng.randn(*prior.event_shape)
        state = z, *squared_residual(problem, prior, z, **options)
        k = rejected = torch.zeros(len(z), dtype=torch.float64, device=z.device)
        e = torch.full_like(k, self.step_size)
        for _ in self.progress(range(5 * n_moves if redraw else n_moves)):
            is_open = (k < n_moves) & (rejected < 5) if redraw else torch.ones_like(k, dtype=torch.bool)
            if redraw and not is_open.any():
                break
            annealing = k < self.n_anneal
            scale = problem.noise.std + self.height * (1 - k / self.n_anneal).clamp(min=0) ** self.power
            e = torch.where((k == self.late_from) & (e > 2 * self.late_step), self.late_step, e)
            p = rng.randn_like(z)
            proposal, p_end = self.leapfrog(problem, prior, state, p, e, scale, options)
            increase = energy(proposal, scale) - energy(state, scale)
            accepted = rng.rand(1)[:, 0].log() < -(increase + half_square(p_end) - half_square(p))
            if redraw:
                accepted = (accepted | annealing & (increase < 0)) & is_open
            state = tuple(choose(accepted, new, old) for new, old in zip(proposal, state, strict=True))
            rejected = torch.where(accepted, 0.0, rejected + 1)
            e = torch.where(accepted | ~annealing, e, 0.95 * e)
            k = k + (accepted if redraw else 1)
        return state[-1]

    def leapfrog(self, problem, prior, state, p, e, scale, options):
        """The state, (z, ||y - A G(z)||^2, its gradient, G(z)), and the momentum after ``n_leapfrog`` steps."""
        z, e = state[0], expand_like(e, p)

        def force(state):
            return state[0] + state[2] / expand_like(2 * scale**2, p)

        p = p - e / 2 * force(state)
        for i in range(self.n_leapfrog):
            z = z + e * p
            state = z, *squared_residual(problem, prior, z, **options)
            p = p - (e if i + 1 < self.n_leapfrog else e / 2) * force(state)
        return state, p


def half_square(x):
    return x.double().square().flatten(1).sum(1) / 2


def energy(state, scale):
    return half_square(state[0]) + state[1].double() / (2 * scale**2)


def choose(accepted, new, old):
    return torch.where(accepted.view(-1, *[1] * (new.ndim - 1)), new, old)
