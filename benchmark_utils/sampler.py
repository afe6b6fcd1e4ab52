"""The base class of every solver: everything around the method's own ``sample``."""

import math
import time

import torch
from benchopt import BaseSolver
from tqdm import tqdm

from benchmark_utils.attempts import RecordsAttempts
from benchmark_utils.provenance import fingerprint, provenance
from benchmark_utils.rng import RNG


class CountingPrior:
    """A loaded prior that counts denoiser rows (``nfe``) and rows of backward passes (``vjp``) through it."""

    def __init__(self, prior):
        self._prior = prior
        self.nfe = self.vjp = 0

    def __getattr__(self, name):
        return getattr(self._prior, name)

    def _count(self, x_hat):
        self.nfe += x_hat.shape[0]
        if x_hat.requires_grad:
            x_hat.register_hook(self._count_backward)
        return x_hat

    def _count_backward(self, gradient):
        self.vjp += gradient.shape[0]

    def denoise(self, x_t, t):
        return self._count(self._prior.denoise(x_t, t))

    def denoise_sigma(self, x, sigma):
        return self._count(self._prior.denoise_sigma(x, sigma))


class PosteriorSampler(RecordsAttempts, BaseSolver):
    """A training-free sampler of ``p(x | y)``: subclasses state what they need and define :meth:`sample`.

    Class attributes of a solver
    ----------------------------
    parameters : dict
        benchopt parameters; a value ``None`` is looked up in ``PRESETS``.
    PRESETS : dict
        ``{(family, task): {parameter: value}}`` with ``"*"`` as wildcard, looked up parameter by parameter in
        the order (family, task), (family, "*"), ("*", task), ("*", "*"); before these (preset, family), if the
        solver has a parameter ``preset`` and it is set.
    needs : set of str
        Capabilities without which a problem is skipped, see ``benchmark_utils.problem.capabilities``.
    """

    sampling_strategy = "run_once"
    needs = frozenset()
    PRESETS = {}
    ess = None  # a particle method's :meth:`sample` sets (n_images,): smallest effective sample size / N per image

    def sample(self, problem, prior, rng):
        """Draw one posterior sample per row of ``problem``.

        Runs without gradients: open ``torch.enable_grad()`` where the method differentiates.

        Parameters
        ----------
        problem : InverseProblem, ``problem.y`` of shape (n, *measurement)
        prior : LoadedPrior, counting its calls
        rng : RNG with the n rows of the problem, the only source of randomness

        Returns
        -------
        x_0 : tensor (n, *prior.event_shape)
        """
        raise NotImplementedError

    def skip(self, problem, prior, **_):
        missing = sorted(set(self.needs) - problem.capabilities)
        if missing:
            reason = f"{self.name} needs {', '.join(missing)}, which {problem.task} with {prior.name} has not"
            if "latent" in problem.capabilities and {"linear", "svd", "mask"} & set(missing):
                reason += ": of a latent, A(decode(z)) is not linear"
            return True, reason
        return False, None

    def set_objective(self, problem, prior, n_samples, seed, batch_size=None):
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.problem, self.n_samples, self.seed = problem, n_samples, seed
        self.batch_size = batch_size or len(problem.images)
        self.prior = prior.load(self.device)
        self.resolve_presets(prior.family, problem.task)

    def resolve_presets(self, family, task):
        """Give every parameter left at ``None`` its published setting.

        Raises ValueError if the solver's PRESETS has no value for one, or not that preset for the family.
        """
        preset = self._parameters.get("preset")
        if preset is not None and (preset, family) not in self.PRESETS:
            raise ValueError(f"{self.name}: PRESETS has no preset {preset!r} for {family}")
        keys = ((preset, family), (family, task), (family, "*"), ("*", task), ("*", "*"))
        for name, value in self._parameters.items():
            if value is None:
                found = [self.PRESETS[key][name] for key in keys if name in self.PRESETS.get(key, {})]
                if not found:
                    raise ValueError(f"{self.name}: PRESETS gives no {name} for {family}, {task}, and no default")
                value = found[0]
            setattr(self, name, value)

    def run(self, _):
        problem = self.problem.to(self.device, self.prior.dtype)
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        prior = CountingPrior(self.prior)
        start = time.perf_counter()
        n_images = len(problem.images)
        samples, ess, batch_size, done = [], [], self.batch_size, 0
        while done < n_images:
            index = range(done, min(done + batch_size, n_images))
            self._label = f"{self}, images {index[0] + 1}-{index[-1] + 1} of {n_images}"
            self._batches_done, self._n_batches = done // batch_size, math.ceil(n_images / batch_size)
            counted = prior.nfe, prior.vjp
            try:
                samples.append(self._sample_images(problem.rows(index, self.n_samples), prior))
            except torch.cuda.OutOfMemoryError:
                if len(index) == 1:
                    raise
                batch_size = len(index) // 2
                prior.nfe, prior.vjp = counted
                print(f"{self}: out of GPU memory with {len(index)} images at once, going on with {batch_size}")
                continue
            done += len(index)
            ess += [float("nan")] * len(index) if self.ess is None else self.ess.tolist()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        on_gpu = self.device.type == "cuda"
        n_rows = n_images * self.n_samples
        self.result = {
            "samples": torch.cat(samples).unflatten(0, (n_images, self.n_samples)),
            "nfe": prior.nfe / n_rows,
            "vjp": prior.vjp / n_rows,
            "seconds_per_image": seconds / n_images,
            "peak_memory_gb": torch.cuda.max_memory_allocated() / 1e9 if on_gpu else float("nan"),
            "ess": ess,
            "provenance": provenance(self.prior, self.device),
        }

    @torch.no_grad()
    def _sample_images(self, problem, prior):
        draws = list(range(problem.n_draws)) * (len(problem.images) // problem.n_draws)
        rng = RNG(self.seed, "sampler", problem.task, problem.images, draws, device=self.device, dtype=prior.dtype)
        solver_problem = problem.in_latent_space(prior) if "latent" in problem.capabilities else problem
        x = prior.decode(self.sample(solver_problem, prior, rng))
        finite = x.flatten(1).isfinite().all(1)
        if not finite.all():
            row = int((~finite).nonzero()[0])
            raise FloatingPointError(
                f"{self}: the sample of image {problem.images[row]} (draw {draws[row]}) is not finite; "
                "a step size is too large for this problem, or the method does not apply to it"
            )
        return x.cpu()

    def progress(self, steps):
        """Iterate over ``steps`` with a progress bar, silent when the output is not a terminal.

        Steps and time left are those of all batches of the cell.
        """
        total, done = len(steps) * self._n_batches, len(steps) * self._batches_done
        return tqdm(steps, desc=self._label, total=total, initial=done, leave=False, disable=None, unit="step")

    def get_result(self):
        result, self.result = self.result, None
        return result

    def __repr__(self):
        """Name with the parameters that were set, without those left to the presets."""
        chosen = ",".join(f"{k}={v}" for k, v in sorted(self._parameters.items()) if v is not None)
        return f"{self.name}[{chosen}]" if chosen else self.name

    def _get_state(self):
        return fingerprint()

    def __setstate__(self, state):
        pass
