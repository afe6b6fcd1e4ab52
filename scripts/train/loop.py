"""The training loop of the networks of this folder.

The learning rate is constant after a warm-up and falls as a cosine to 0 over the last ``--cool-down`` of
``--minutes``. The clock is the wall clock of this process, summed over resumes.
The run continues from ``<out>/checkpoint.pt`` if that exists and had the same ``--start``.
``<out>/checkpoint_stable.pt`` is the state before the fall: copied over ``checkpoint.pt``, it starts a longer run with
a larger ``--minutes``.
The exponential moving average of the weights is what gets evaluated and exported.
"""

import contextlib
import copy
import functools
import math
import os
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmark_utils.files.paths import sha256_of, write_atomically

WARM_UP = 10_000  # examples


def add_arguments(parser, out, minutes, cool_down, batch_size, evaluate_every):
    """The options that :func:`train` reads, with these defaults."""
    parser.add_argument("--start", type=Path, help="weights to start from, a safetensors file of this script")
    parser.add_argument("--out", type=Path, default=Path(out))
    parser.add_argument("--minutes", type=float, default=minutes, help="of training in all")
    parser.add_argument("--cool-down", type=float, default=cool_down, help="minutes of falling learning rate")
    parser.add_argument("--batch-size", type=int, default=batch_size)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--checkpoint-every", type=float, default=5, help="minutes")
    parser.add_argument("--evaluate-every", type=float, default=evaluate_every, help="minutes")


@functools.cache
def has_bfloat16(device):
    """Whether the device multiplies bfloat16 matrices in hardware."""
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    cpuinfo = Path("/proc/cpuinfo")
    flags = set(cpuinfo.read_text().split()) if cpuinfo.exists() else set()
    return bool(flags & {"amx_bf16", "avx512_bf16"})


@contextlib.contextmanager
def fast_arithmetic(device):
    """bfloat16 where the device has it, and attention as plain products.

    There are few tokens: the flash kernel's backward pass took a fifth of a training step on a CPU.
    """
    with torch.autocast(device.split(":")[0], torch.bfloat16, enabled=has_bfloat16(device)):
        with sdpa_kernel(SDPBackend.MATH):
            yield


def draw_sigmas(n, mean, std, levels, generator):
    """Noise levels (n,): ln sigma ~ N(mean, std^2) for 95 %, log-uniform over ``levels`` for the rest."""
    options = {"generator": generator, "device": generator.device}
    low, high = (math.log(level) for level in levels)
    normal = mean + std * torch.randn(n, **options)
    uniform = low + (high - low) * torch.rand(n, **options)
    return torch.where(torch.rand(n, **options) < 0.05, uniform, normal).exp()


def denoising_loss(denoiser, x, sigma, sigma_data, generator):
    """The EDM loss (Karras et al. 2022, https://arxiv.org/abs/2206.00364, eq. 8) of x (n, *event) at sigma (n,)."""
    rows = sigma.view(-1, *[1] * (x.ndim - 1))
    noisy = x + rows * torch.randn(x.shape, generator=generator, device=x.device)
    weight = (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2
    with fast_arithmetic(x.device.type):
        denoised = denoiser(noisy, sigma)
    return (weight * (denoised - x).square().flatten(1).mean(1)).mean()


@torch.no_grad()
def denoising_error(denoiser, x, sigma, seed):
    """Mean squared denoising error per value of x (n, *event) at one level, in batches of 100."""
    generator = torch.Generator().manual_seed(seed)
    total = 0.0
    for batch in x.split(100):
        noisy = batch + sigma * torch.randn(batch.shape, generator=generator).to(batch.device)
        levels = torch.full((len(batch),), sigma, device=batch.device)
        total += (denoiser(noisy, levels) - batch).square().flatten(1).mean(1).sum().item()
    return total / len(x)


def print_errors(denoiser, sets, sigmas, n_seeds=1):
    """:func:`denoising_error` of each of the named sets at each level, mean over noise draws."""
    for name, x in sets.items():
        table = []
        for sigma in sigmas:
            errors = [denoising_error(denoiser, x, sigma, seed) for seed in range(n_seeds)]
            table.append(f"{sigma:g}: {sum(errors) / n_seeds:.5f}")
        print(f"{name:8s} mse  {'  '.join(table)}", flush=True)


def learning_rate_factor(seen, seconds, total, cool_down):
    """Linear warm-up over examples, constant, then a cosine to 0 over the last ``cool_down`` seconds."""
    progress = max(0.0, 1 - (total - seconds) / cool_down) if cool_down else 0.0
    return min(1.0, (seen + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def train(network, loss_of_batch, evaluate, name, args, compile=True):
    """Train a network for ``args.minutes``; the average over its weights is returned.

    ``loss_of_batch(network, generator)`` is the mean loss of ``args.batch_size`` new examples, drawn by the generator,
    which is on ``args.device``; ``evaluate(average)`` prints what the average can do, inside :func:`fast_arithmetic`.
    ``<args.out>/<name>.safetensors`` has the average in half precision. Raises FloatingPointError where the loss or its
    gradient is not finite, and ValueError if the checkpoint is of a run with another ``args.start``.
    """
    start = time.perf_counter()
    args.out.mkdir(parents=True, exist_ok=True)
    total, cool_down = 60 * args.minutes, 60 * min(args.cool_down, args.minutes)
    start_weights = sha256_of(args.start) if args.start else "none"
    network = network.to(args.device, memory_format=torch.channels_last)
    averaged_network = copy.deepcopy(network).eval().requires_grad_(False)
    parameters, averages = list(network.parameters()), list(averaged_network.parameters())
    optimiser = torch.optim.Adam(parameters, lr=args.learning_rate, betas=(0.9, 0.99), fused=True)
    seen, seconds_before = 0, 0.0
    checkpoint_path = args.out / "checkpoint.pt"
    if checkpoint_path.exists():
        checkpoint = torch.load(checkpoint_path, map_location=args.device, weights_only=True)
        if checkpoint.get("start") != start_weights:
            raise ValueError(f"{checkpoint_path} is of a run with another --start: delete it or take another --out")
        network.load_state_dict(checkpoint["network"])
        averaged_network.load_state_dict(checkpoint["average"])
        optimiser.load_state_dict(checkpoint["optimiser"])
        seen, seconds_before = checkpoint["seen"], checkpoint["seconds"]
        print(f"resuming after {seen} examples, {seconds_before / 60:.1f} minutes", flush=True)

    print(f"{args.device}, {torch.get_num_threads()} threads, bfloat16: {has_bfloat16(args.device)}", flush=True)
    compiled_network = torch.compile(network, dynamic=False) if compile else network
    generator = torch.Generator(args.device).manual_seed(seen + 1)

    def clock():
        return seconds_before + time.perf_counter() - start

    def checkpoint(path):
        state = {"network": network.state_dict(), "average": averaged_network.state_dict()}
        state |= {"optimiser": optimiser.state_dict(), "seen": seen, "seconds": clock(), "start": start_weights}
        write_atomically(path, lambda partial: torch.save(state, partial))

    def report():
        print(f"{clock() / 60:6.1f} min  {seen:8d} examples", flush=True)
        with fast_arithmetic(args.device):
            evaluate(averaged_network)
        weights = {key: value.half().contiguous() for key, value in averaged_network.state_dict().items()}
        write_atomically(args.out / f"{name}.safetensors", lambda partial: save_file(weights, partial))

    seconds = seconds_before
    last_checkpoint = last_evaluation = clock()
    losses, first = [], seen
    while seconds < total:
        for group in optimiser.param_groups:
            group["lr"] = args.learning_rate * learning_rate_factor(seen, seconds, total, cool_down)
        loss = loss_of_batch(compiled_network, generator)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        if not (loss + norm).isfinite():
            raise FloatingPointError(f"loss {loss:g}, gradient {norm:g} after {seen} examples: lower the learning rate")
        optimiser.step()
        seen += args.batch_size
        # half-life: 5 % of the examples seen so far, at most 20,000
        decay = 0.5 ** (args.batch_size / max(1.0, min(20_000, 0.05 * seen)))
        with torch.no_grad():
            torch._foreach_lerp_(averages, parameters, 1 - decay)
        losses.append(loss.item())

        before, seconds = seconds, clock()
        if before < total - cool_down <= seconds:
            checkpoint(args.out / "checkpoint_stable.pt")
        if seconds - last_checkpoint > 60 * args.checkpoint_every:
            checkpoint(checkpoint_path)
            rate = (seen - first) / (seconds - last_checkpoint)
            loss = sum(losses) / len(losses)  # since the last checkpoint
            print(f"{seconds / 60:6.1f} min  {seen:8d} examples  loss {loss:.4f}  {rate:.1f} a second", flush=True)
            last_checkpoint, first, losses = seconds, seen, []
        if seconds - last_evaluation > 60 * args.evaluate_every and total - seconds > 30 * args.evaluate_every:
            report()
            last_evaluation = clock()
    checkpoint(checkpoint_path)
    report()
    cpu_seconds = sum(os.times()[:2])
    print(f"{clock() / 60:.1f} minutes, {cpu_seconds / 60:.1f} CPU minutes of this process", flush=True)
    return averaged_network
