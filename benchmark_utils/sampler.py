"""The base class of every solver: everything around the method's own ``sample``."""

import inspect
import math
import time
from collections.abc import Iterable, Mapping, Sequence, Set
from itertools import pairwise
from numbers import Real
from typing import Any, TypeVar, cast

import torch
from benchopt import BaseSolver
from torch import Tensor
from tqdm import tqdm

from benchmark_utils.attempts import RecordsAttempts
from benchmark_utils.priors import Prior
from benchmark_utils.priors.base import LoadedPrior, given
from benchmark_utils.problem import CAPABILITIES, InverseProblem, group_of
from benchmark_utils.provenance import code_digest, fingerprint, provenance
from benchmark_utils.rng import RNG

T = TypeVar("T")


class CountingPrior:
    """A loaded prior that counts denoiser rows (``nfe``) and rows of backward passes (``vjp``) through it."""

    def __init__(self, prior: LoadedPrior) -> None:
        self._prior = prior
        self.nfe = self.vjp = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._prior, name)

    def _count(self, x_hat: Tensor) -> Tensor:
        self.nfe += x_hat.shape[0]
        if x_hat.requires_grad:
            x_hat.register_hook(self._count_backward)
        return x_hat

    def _count_backward(self, gradient: Tensor) -> None:
        self.vjp += gradient.shape[0]

    def denoise(self, x_t: Tensor, t: int | Tensor, label: Tensor | None = None) -> Tensor:
        return self._count(self._prior.denoise(x_t, t, **given(label)))

    def denoise_sigma(self, x: Tensor, sigma: float | Tensor, label: Tensor | None = None) -> Tensor:
        return self._count(self._prior.denoise_sigma(x, sigma, **given(label)))


class PosteriorSampler(RecordsAttempts, BaseSolver):
    """A training-free sampler of ``p(x | y)``: subclasses state what they need and define :meth:`sample`.

    Class attributes of a solver
    ----------------------------
    parameters : dict
        benchopt parameters; a value ``None`` is looked up in ``PRESETS``.
    PRESETS : dict
        ``{(family, task): {parameter: value}}`` with ``"*"`` as wildcard, looked up parameter by parameter for
        (family, task), (family, group), (family, "*"), ("*", task), ("*", group), ("*", "*"), where the group of
        ``sr8`` is ``sr*``; before these (preset, family), (preset, task), (preset, group) and (preset, "*"), if the
        solver has a parameter ``preset`` and it is set.
        A parameter takes values of their type: whole numbers where all of them are, pairs where they are pairs.
    choices : dict
        ``{parameter: allowed values}``; ``float`` among them allows every number.
    ranges : dict
        ``{parameter: (smallest, largest)}`` of numbers; else whole numbers are at least 1 (0 if a preset is), others 0.
    needs : set of str
        Capabilities without which a problem is skipped, out of ``benchmark_utils.problem.CAPABILITIES``.
    """

    sampling_strategy = "run_once"
    needs: Set[str] = frozenset()
    choices: Mapping[str, Sequence] = {}
    ranges: Mapping[str, tuple[float, float]] = {}
    PRESETS: Mapping[tuple[str, str], Mapping[str, Any]] = {}
    # a particle method's :meth:`sample` sets (n_images,): smallest effective sample size / N of each image
    ess: Tensor | None = None
    n_steps: int  # a parameter of most solvers
    steps_are_levels = True  # False where ``n_steps`` is the size of a grid of the method's own

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        unknown = sorted(set(cls.needs) - set(CAPABILITIES))
        if unknown:
            raise ValueError(
                f"{cls.name}: needs has {', '.join(unknown)}, which is no capability; known: {', '.join(CAPABILITIES)}"
            )
        if "noise" in inspect.signature(cls.sample).parameters:
            raise TypeError(
                f"{cls.name}: rename the third argument of sample from noise to rng, and its methods: noise.normal is "
                "now rng.randn, noise.uniform is rng.rand"
            )

    def sample(self, problem: InverseProblem, prior: LoadedPrior, rng: RNG) -> Tensor:
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

    def skip(self, problem: InverseProblem, prior: Prior, **_: object) -> tuple[bool, str | None]:
        missing = sorted(set(self.needs) - problem.capabilities)
        if missing:
            reason = f"{self.name} needs {', '.join(missing)}, which {problem.task} with {prior.name} has not"
            if "latent" in problem.capabilities and {"linear", "svd", "mask"} & set(missing):
                reason += ": of a latent, A(decode(z)) is not linear"
            return True, reason
        return False, None

    def set_objective(
        self, problem: InverseProblem, prior: Prior, n_samples: int, seed: int, batch_size: int | None = None
    ) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.problem, self.n_samples, self.seed = problem, n_samples, seed
        self.batch_size = batch_size or len(problem.images)
        self.resolve_presets(prior.family, problem.task)
        self.prior = prior.load(self.device)
        self.cut_preset_steps(self.prior.schedule.T)

    def resolve_presets(self, family: str, task: str) -> None:
        """Set every parameter as an attribute: the value given, or its published setting where that is ``None``.

        Raises ValueError if PRESETS has no value for one, or not that preset for the family, or if a value is not
        allowed by ``choices``, ``ranges`` or the type of the published settings.
        """
        preset, tasks = self._parameters.get("preset"), (task, group_of(task), "*")
        named = [(preset, name) for name in (family, *tasks)] if preset is not None else []
        if named and not self.PRESETS.keys() & named:
            raise ValueError(f"{self.name}: PRESETS has no preset {preset!r} for {family}")
        keys = [*named, *((f, t) for f in (family, "*") for t in tasks)]
        for name, value in self._parameters.items():
            if value is None:
                found = [self.PRESETS[key][name] for key in keys if name in self.PRESETS.get(key, {})]
                if not found:
                    raise ValueError(f"{self.name}: PRESETS gives no {name} for {family}, {task}, and no default")
                value = found[0]
            setattr(self, name, self._check(name, value))

    def cut_preset_steps(self, n_levels: int) -> None:
        """Take all levels of the prior's schedule where a published ``n_steps`` is more than it has."""
        published = self.steps_are_levels and self._parameters.get("n_steps", 0) is None
        if published and self.n_steps > n_levels:
            print(f"{self}: its preset n_steps={self.n_steps} is cut to {n_levels}, the noise levels of the prior")
            self.n_steps = n_levels

    def _check(self, name: str, value: Any) -> Any:
        """``value`` in the type of the parameter's published settings; raises ValueError if it is not allowed."""
        choices = self.choices.get(name, ())
        published = [s[name] for s in self.PRESETS.values() if isinstance(s.get(name), (int, float, tuple))]
        if value in choices or not (choices or published):
            return value
        expected, hint = [repr(choice) for choice in choices if choice is not float], ""
        if float in choices or not choices:
            length = len(published[0]) if published and isinstance(published[0], tuple) else None
            examples = [number for setting in published for number in (setting if length else [setting])]
            whole = bool(examples) and all(isinstance(number, int) for number in examples)
            low, high = self.ranges.get(name, (min([1, *examples]) if whole else 0, math.inf))

            def allows(number: Any) -> bool:
                if isinstance(number, bool) or not isinstance(number, Real) or not low <= number <= high:
                    return False
                return number in examples or math.isfinite(number) and not (whole and number % 1)

            convert = int if whole else float
            if length is None and allows(value):
                return convert(value)
            if isinstance(value, (tuple, list)) and len(value) == length and all(map(allows, value)):
                return tuple(map(convert, value))
            kind = f"{'whole ' * whole}number{'s' * bool(length)} "
            kind += f"of {low} or more" if high == math.inf else f"from {low} to {high}"
            expected.append(f"{length or 'a'} {kind}")
            if length:
                hint = f"; write {name}=[{list(published[0])}]: benchopt tries the values of an outer list in turn"
        raise ValueError(f"{self.name}: {name} must be {' or '.join(expected)}, got {value!r}{hint}")

    def run(self, _: object) -> None:
        problem = self.problem.to(self.device, self.prior.dtype)
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        prior = CountingPrior(self.prior)
        start = time.perf_counter()
        n_images = len(problem.images)
        samples: list[Tensor] = []
        ess: list[float] = []
        batch_size, done = self.batch_size, 0
        while done < n_images:
            index = range(done, min(done + batch_size, n_images))
            self._label = f"{self}, images {index[0] + 1}-{index[-1] + 1} of {n_images}"
            self._batches_done, self._n_batches = done // batch_size, math.ceil(n_images / batch_size)
            counted, started = (prior.nfe, prior.vjp), time.perf_counter()
            try:
                samples.append(self._sample_images(problem.rows(index, self.n_samples), cast(LoadedPrior, prior)))
            except torch.cuda.OutOfMemoryError as error:
                if len(index) == 1:
                    raise torch.cuda.OutOfMemoryError(
                        f"{self}: one image with n_samples={self.n_samples} does not fit into the GPU's memory: lower "
                        f"n_samples or the method's number of particles, or take precision=bfloat16 ({error})"
                    ) from error
                batch_size = len(index) // 2
                prior.nfe, prior.vjp = counted
                start += time.perf_counter() - started
                print(f"{self}: out of GPU memory with {len(index)} images at once, going on with {batch_size}")
                continue
            done += len(index)
            ess += [float("nan")] * len(index) if self.ess is None else self.ess.tolist()
            if self.ess is not None and not self.ess.isfinite().all():
                raise FloatingPointError(f"{self._label}: the weights of the particles are no finite numbers")
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
            "provenance": provenance(self.prior, self.device) | self.describe_settings(),
        }

    def describe_settings(self) -> dict[str, str | None]:
        """The value of every parameter, presets resolved, and the digest of the solver's code: texts for the rows."""
        module = getattr(self, "_module_filename", None)
        settings = ", ".join(f"{name}={getattr(self, name)}" for name in self._parameters)
        return {"settings": settings or "no parameters", "solver_code": code_digest(module) if module else None}

    @torch.no_grad()
    def _sample_images(self, problem: InverseProblem, prior: LoadedPrior) -> Tensor:
        draws = list(range(problem.n_draws)) * (len(problem.images) // problem.n_draws)
        rng = RNG(self.seed, "sampler", problem.task, problem.images, draws, device=self.device, dtype=prior.dtype)
        solver_problem = problem.in_latent_space(prior) if "latent" in problem.capabilities else problem
        x_0 = self.sample(solver_problem, prior, rng)
        self._check_samples(x_0, solver_problem, prior)
        x = prior.decode(x_0)
        finite = x.flatten(1).isfinite().all(1)
        if not finite.all():
            row = int((~finite).nonzero()[0])
            raise FloatingPointError(
                f"{self}: the sample of image {problem.images[row]} (draw {draws[row]}) is not finite; "
                "a step size is too large for this problem, or the method does not apply to it"
            )
        return x.cpu()

    def _check_samples(self, x_0: object, problem: InverseProblem, prior: LoadedPrior) -> None:
        """Raise ValueError unless ``x_0`` is what :meth:`sample` has to return."""

        def describe(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> str:
            return f"a tensor {tuple(shape)} of {dtype} on {device}"

        expected = describe((len(problem.images), *prior.event_shape), prior.dtype, problem.y.device)
        given = describe(x_0.shape, x_0.dtype, x_0.device) if torch.is_tensor(x_0) else f"a {type(x_0).__name__}"
        if given != expected:
            raise ValueError(f"{self}: sample must return {expected}, not {given}")

    def progress(self, steps: Sequence[T]) -> Iterable[T]:
        """Iterate over ``steps`` with a progress bar, silent when the output is not a terminal.

        Steps and time left are those of all batches of the cell.
        """
        total, done = len(steps) * self._n_batches, len(steps) * self._batches_done
        return tqdm(steps, desc=self._label, total=total, initial=done, leave=False, disable=None, unit="step")

    def steps(self, levels: Iterable[T]) -> Iterable[tuple[T, T]]:
        """Iterate over the neighbouring pairs (t, s) of ``levels`` with the progress bar of :meth:`progress`."""
        return self.progress(list(pairwise(levels)))

    def get_result(self) -> dict[str, Any]:
        result, self.result = self.result, {}
        return result

    def __repr__(self) -> str:
        """Name with the parameters that were set, without those left to the presets."""
        chosen = ",".join(f"{k}={v}" for k, v in sorted(self._parameters.items()) if v is not None)
        return f"{self.name}[{chosen}]" if chosen else self.name

    def _get_state(self) -> dict[str, str]:
        return fingerprint(self._module_filename)

    def __setstate__(self, state: object) -> None:
        pass
