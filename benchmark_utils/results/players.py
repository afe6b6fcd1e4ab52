"""Listen to separated stems: a page with an audio player per stem and method, all with one common gain."""

import base64
import html
import io
import sys

import numpy as np
import soundfile

from benchmark_utils.metrics import SAMPLE_RATE, STEMS
from benchmark_utils.results import pictures, scores

LOUDEST = 0.9

STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2rem auto; max-width: 1300px; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid #ddd; text-align: left; }
audio { width: 220px; }
.wide { overflow-x: auto; }
"""


def decode(content):
    """The signals (k, length) of :func:`benchmark_utils.stored.encode`."""
    return soundfile.read(io.BytesIO(content.tobytes()), always_2d=True)[0].T


def player(signal, gain):
    """HTML of an audio player for a signal (length,)."""
    buffer = io.BytesIO()
    soundfile.write(buffer, gain * signal, SAMPLE_RATE, format="WAV", subtype="PCM_16")
    return f'<audio controls src="data:audio/wav;base64,{base64.b64encode(buffer.getvalue()).decode()}"></audio>'


def task_html(df, task):
    """The players of one track of a task, the same for all: mixture, truth, and the methods as in the leaderboard."""
    rows = scores.rows_of(df, task)
    first = scores.headline(rows)
    stored = pictures.read_stored(df, task)
    if not any("sample_audio" in cell for cell in stored.values()):
        return ""
    by_solver = pictures.rows_of_cells(df, task, pictures.picture_cells(df))
    track = {solver: found.iloc[0] for solver, found in by_solver.items()}
    first_cell = next(iter(stored.values()))
    signals = {solver: decode(cell["sample_audio"]) for solver, cell in stored.items()}
    if "truth_audio" in first_cell:
        signals = {"truth": decode(first_cell["truth_audio"])} | signals
        mixture = signals["truth"].sum(0)
    else:
        (mixture,) = decode(first_cell["mixture_audio"])
    gain = LOUDEST / max(np.abs(mixture).max(), *(np.abs(stems).max() for stems in signals.values()))
    heading = "".join(f"<th>{stem}</th>" for stem in STEMS)
    body = [f"<tr><td>mixture</td><td></td><td colspan=4>{player(mixture, gain)}</td></tr>"]
    for name, stems in signals.items():
        score = "" if name == "truth" else track[name][f"objective_{first}"]
        measured = "" if name == "truth" else f"{score:.{scores.count_decimals(score)}f}"
        cells_html = "".join(f"<td>{player(stem, gain)}</td>" for stem in stems)
        body.append(f"<tr><td>{html.escape(scores.solver_label(rows, name))}</td><td>{measured}</td>{cells_html}</tr>")
    label = html.escape(pictures.score_label(rows, first))
    file = html.escape(next(iter(track.values()))["objective_file"])
    seconds = len(mixture) / SAMPLE_RATE
    note = f"<p>{file}: its first {seconds:.1f} s to hear, the score of all that was separated of it.</p>"
    table = f"<div class=wide><table><tr><th></th><th>{label}</th>{heading}</tr>{''.join(body)}</table></div>"
    return f"<h2>{html.escape(task)}</h2>{note}{table}"


def listen_to(path):
    """Write ``<run>_listen.html`` beside the results at ``path`` and print its path; exits if they have no audio."""
    df = scores.read_file(path)
    sections = [task_html(df, task) for task in scores.tasks(df)] if "final_results" in df else []
    if not any(sections):
        sys.exit(f"{path} has no audio: run a slakh2100 dataset")
    target = path.with_name(f"{path.stem}_listen.html")
    head = '<!doctype html><meta charset=utf-8><meta name=viewport content="width=device-width, initial-scale=1">'
    head += f"<title>{html.escape(path.stem)}</title><style>{STYLE}</style>"
    target.write_text(head + "".join(sections), encoding="utf-8")
    print(target)
