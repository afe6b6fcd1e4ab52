"""What a cell stores for the page beside its scores: pictures, Inception features, audio, traces."""

import functools
import io
from urllib.error import URLError

import numpy as np
import torch

from benchmark_utils.metrics import SAMPLE_RATE, STEMS

N_PICTURES = 4
N_TRACES, N_TRACED_DRAWS = 2, 5
BATCH = 16  # pictures at a time through the Inception network
AUDIO_LENGTH = 2**18  # 12 seconds: about 1.5 MB for truth and sample of one cell
WINDOW = 2048
PICTURE_HEIGHT, PICTURE_FRAMES = 128, 256
LOWEST, DYNAMIC_RANGE = 40.0, 80.0  # Hz and dB of the spectrograms


def store(problem, x_true, samples, groups, fid, keep_all=False):
    """What is kept of samples (n, D, *signal): pictures of the first images, or audio of the first track, or None.

    Of electrocardiograms it is the traces of the first records. ``x_true`` may be None. ``groups`` are the rows of each
    track; with ``fid``, Inception features of all truths and first draws are added; with ``keep_all``, all draws of all
    images.
    """
    if "separation" in problem.capabilities:
        signals = problem.y, x_true, samples[:, 0]
        return store_audio(*(None if x is None else torch.cat(list(x[groups[0]]), -1) for x in signals))
    if "leads" in problem.capabilities:
        return store_traces(problem, x_true, samples, keep_all)
    if "image" in problem.capabilities:
        return store_pictures(problem, x_true, samples, fid, keep_all)
    return None


def store_pictures(problem, x_true, samples, fid, keep_all):
    """uint8 arrays of the first images: observation, first draw, truth if it is known, (k, H, W, C).

    Of several draws also their mean, and the spread (k, H, W). ``draws`` (k, D, H, W, C), all or the first few, are
    there with ``keep_all`` and without a truth.
    """
    n = len(samples) if keep_all else N_PICTURES
    show = getattr(problem.operator, "picture", lambda y, noise: y)
    pictures = {"truth": x_true, "observation": show(problem.y[:n], problem.noise), "sample": samples[:, 0]}
    stored = {name: to_uint8(batch[:n]) for name, batch in pictures.items() if batch is not None}
    if samples.shape[1] > 1:
        spread = samples[:n].float().std(1).mean(1)  # of a value in [-1, 1]: at most about 1
        stored["spread"] = (255 * spread.clamp(0, 1)).round().byte().cpu().numpy()
        stored["mean"] = to_uint8(samples[:n].float().mean(1))
        if keep_all or x_true is None:
            stored["draws"] = np.stack([to_uint8(draws[: None if keep_all else N_PICTURES]) for draws in samples[:n]])
    if fid:
        stored |= {f"{name}_features": inception_features(to_uint8(pictures[name])) for name in ("truth", "sample")}
    return stored


def to_uint8(batch):
    """Images (n, C, H, W) in [-1, 1] as numpy uint8 (n, H, W, C), clamped."""
    pixels = (batch.detach().float().clamp(-1, 1) + 1) * 127.5
    return pixels.round().byte().movedim(1, -1).cpu().numpy()


@functools.cache
def inception():
    """torchmetrics' InceptionV3, weights fetched on first use (95 MB).

    Raises FileNotFoundError if they are neither here nor reachable.
    """
    from torchmetrics.image.fid import NoTrainInceptionV3

    try:
        return NoTrainInceptionV3("inception-v3-compat", ["2048"])
    except (URLError, TimeoutError, ConnectionError) as error:
        folder = f"{torch.hub.get_dir()}/checkpoints"
        message = f"fid=True needs the Inception weights, which are not in {folder} and not reachable ({error})"
        raise FileNotFoundError(message) from error


def inception_features(images):
    """Inception features of uint8 images (n, H, W, 3), or 1, which is repeated: (n, 2048) in float16."""
    batches = torch.from_numpy(images).movedim(-1, 1).expand(-1, 3, -1, -1).split(BATCH)
    with torch.no_grad():
        return torch.cat([inception()(batch) for batch in batches]).half().numpy()


def store_audio(mixture, truth, sample):
    """Spectrograms and audio of a mixture (1, length) and the stems (4, length) of a track, at most 12 seconds.

    Without a truth the mixture's audio is stored, which is else the sum of the true stems.
    """
    mixture, sample = mixture[:, :AUDIO_LENGTH].double(), sample[:, :AUDIO_LENGTH].double()
    window = torch.hann_window(WINDOW, dtype=torch.float64)
    loudest = torch.stft(mixture, WINDOW, window=window, pad_mode="constant", return_complex=True).abs().max() ** 2
    stored = {
        "observation": spectrograms(mixture.expand_as(sample), loudest),
        "sample": spectrograms(sample, loudest),
        "stems": STEMS,
        "sample_audio": encode(sample),
    }
    if truth is None:
        return stored | {"mixture_audio": encode(mixture)}
    truth = truth[:, :AUDIO_LENGTH].double()
    return stored | {"truth": spectrograms(truth, loudest), "truth_audio": encode(truth)}


def spectrograms(signals, loudest):
    """Pictures (k, height, frames, 1), uint8, of signals (k, length): log frequency, from 80 dB below ``loudest``."""
    hop = max(1, signals.shape[1] // PICTURE_FRAMES)
    options = {"window": torch.hann_window(WINDOW, dtype=signals.dtype), "return_complex": True}
    power = torch.stft(signals, WINDOW, hop, pad_mode="constant", **options).abs().square()
    highest = SAMPLE_RATE / 2
    frequency = torch.logspace(np.log10(highest), np.log10(LOWEST), PICTURE_HEIGHT, dtype=torch.float64)
    bins = (frequency / SAMPLE_RATE * WINDOW).round().long()
    decibels = 10 * (power[:, bins] / loudest).clamp(min=1e-12).log10()
    level = (decibels / DYNAMIC_RANGE + 1).clamp(0, 1) * 255
    return level.round().byte()[..., None].numpy()


def encode(stems):
    """Signals (k, length), clamped to [-1, 1], as the bytes of a FLAC file."""
    import soundfile  # only audio needs it

    buffer = io.BytesIO()
    soundfile.write(buffer, stems.clamp(-1, 1).T.numpy(), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return np.frombuffer(buffer.getvalue(), dtype=np.uint8)


def store_traces(problem, x_true, samples, keep_all):
    """float16 arrays of the first records: truth, what was seen of it (else NaN), mean (k, leads, time).

    ``band`` (k, 2, leads, time) is the range of all draws, ``draws_of_leads`` (k, d, leads, time) are the first draws
    one by one; all draws of all records with ``keep_all``.
    """
    n, n_draws = (None, None) if keep_all else (N_TRACES, N_TRACED_DRAWS)
    x, y, draws = (part[:n].double() for part in (x_true, problem.y, samples))
    seen = torch.where(problem.operator.mask[:n] != 0, y, torch.nan)
    band = torch.stack(draws.aminmax(dim=1), 1)
    named = {"truth": x, "seen": seen, "mean": draws.mean(1), "band": band, "draws_of_leads": draws[:, :n_draws]}
    return {name: values.half().numpy() for name, values in named.items()}
