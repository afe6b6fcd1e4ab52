"""Listen to separated stems: ``python -m benchmark_utils.results.players outputs/<run>.parquet``.

Writes ``outputs/<run>_listen.html`` with an audio player per stem and method, all with one common gain; the page
needs no network. Also what the objective keeps of a separation for that page and for the pictures.
"""

import argparse
import base64
import html
import io
import sys
from pathlib import Path

import numpy as np
import soundfile
import torch
from benchopt.results import read_results

from benchmark_utils.metrics import SAMPLE_RATE, STEMS
from benchmark_utils.results import pictures, scores

KEPT_LENGTH = 2**18  # 12 seconds: about 1.5 MB for truth and sample of one cell
WINDOW = 2048
PICTURE_HEIGHT, PICTURE_FRAMES = 128, 256
LOWEST, DYNAMIC_RANGE = 40.0, 80.0  # Hz and dB of the pictures
LOUDEST = 0.9

STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2rem auto; max-width: 1300px; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid #ddd; text-align: left; }
audio { width: 220px; }
"""


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
    """Stems (4, length), clamped to [-1, 1], as the bytes of a FLAC file."""
    buffer = io.BytesIO()
    soundfile.write(buffer, stems.clamp(-1, 1).T.numpy(), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return np.frombuffer(buffer.getvalue(), dtype=np.uint8)


def decode(content):
    """The (4, length) stems of :func:`encode`."""
    return soundfile.read(io.BytesIO(content.tobytes()))[0].T


def kept(truth, sample):
    """What is kept of the first track: pictures and audio of stems (4, length), at most 12 seconds."""
    truth, sample = (stems[:, :KEPT_LENGTH].double() for stems in (truth, sample))
    mixture = truth.sum(0, keepdim=True)
    window = torch.hann_window(WINDOW, dtype=torch.float64)
    loudest = torch.stft(mixture, WINDOW, window=window, pad_mode="constant", return_complex=True).abs().max() ** 2
    return {
        "truth": spectrograms(truth, loudest),
        "observation": spectrograms(mixture.expand_as(truth), loudest),
        "sample": spectrograms(sample, loudest),
        "stems": STEMS,
        "truth_audio": encode(truth),
        "sample_audio": encode(sample),
    }


def player(signal, gain):
    """HTML of an audio player for a signal (length,)."""
    buffer = io.BytesIO()
    soundfile.write(buffer, gain * signal, SAMPLE_RATE, format="WAV", subtype="PCM_16")
    return f'<audio controls src="data:audio/wav;base64,{base64.b64encode(buffer.getvalue()).decode()}"></audio>'


def task_html(df, task):
    """The players of one track of a task, the same for all: mixture, truth, and the methods as in the leaderboard."""
    rows = scores.rows_of(df, task)
    first = scores.headline(rows)
    stored = pictures.stored(df, task)
    if not any("sample_audio" in cell for cell in stored.values()):
        return ""
    track = {solver: found.iloc[0] for solver, found in pictures.rows_of_cells(df, task).items()}
    truth = decode(next(iter(stored.values()))["truth_audio"])
    signals = {"truth": truth} | {solver: decode(cell["sample_audio"]) for solver, cell in stored.items()}
    gain = LOUDEST / max(np.abs(truth.sum(0)).max(), *(np.abs(stems).max() for stems in signals.values()))
    heading = "".join(f"<th>{stem}</th>" for stem in STEMS)
    body = [f"<tr><td>mixture</td><td></td><td colspan=4>{player(truth.sum(0), gain)}</td></tr>"]
    for name, stems in signals.items():
        score = "" if name == "truth" else track[name][f"objective_{first}"]
        measured = "" if name == "truth" else f"{score:.{scores.count_decimals(score)}f}"
        cells_html = "".join(f"<td>{player(stem, gain)}</td>" for stem in stems)
        body.append(f"<tr><td>{html.escape(name)}</td><td>{measured}</td>{cells_html}</tr>")
    label = html.escape(pictures.score_label(rows, first))
    file = html.escape(next(iter(track.values()))["objective_file"])
    seconds = truth.shape[1] / SAMPLE_RATE
    note = f"<p>{file}: its first {seconds:.1f} s to hear, the score of all that was separated of it.</p>"
    table = f"<table><tr><th></th><th>{label}</th>{heading}</tr>{''.join(body)}</table>"
    return f"<h2>{html.escape(task)}</h2>{note}{table}"


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="the .parquet file of a run")
    options = parser.parse_args(arguments)
    if not options.run.is_file():
        parser.error(f"{options.run} does not exist")
    df = read_results(options.run)
    sections = [task_html(df, task) for task in scores.tasks(df)] if "final_results" in df else []
    if not any(sections):
        sys.exit(f"{options.run} has no audio: run a slakh2100 dataset")
    target = options.run.with_name(f"{options.run.stem}_listen.html")
    page = f"<!doctype html><meta charset=utf-8><title>{html.escape(options.run.stem)}</title><style>{STYLE}</style>"
    target.write_text(page + "".join(sections), encoding="utf-8")
    print(target)


if __name__ == "__main__":
    main()
