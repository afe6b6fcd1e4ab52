"""Write what a run stored as files: pictures as PNG, audio as WAV, electrocardiograms as NPZ.

A JSON says where each comes from.
"""

import hashlib
import json
import re
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from benchmark_utils.files.paths import write_atomically
from benchmark_utils.files.ptbxl import LEADS
from benchmark_utils.metrics import SAMPLE_RATE
from benchmark_utils.results import pictures, scores
from benchmark_utils.runs.cells import CELL, task_label


def name_of(text):
    """A text as part of a file's name; a long one is cut, and its hash keeps it apart from others."""
    name = re.sub(r"[^\w.=-]+", "_", text).strip("_")
    return name if len(name) <= 100 else f"{name[:90]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def pictures_of(stored, i):
    """``{name: uint8 picture}`` of image ``i`` of a cell, as the page shows them."""
    found = {name: stored[name][i] for name in ("truth", "observation", "mean") if name in stored}
    draws = stored["draws"][i] if "draws" in stored else stored["sample"][i][None]
    found |= {f"sample{j}": draw for j, draw in enumerate(draws, 1)}
    if "spread" in stored:
        found["spread"] = pictures.heat(stored["spread"][i] / 255, pictures.AT_WHITE)
    squeezed = {name: pictures.squeeze_picture(array) for name, array in found.items()}
    return {name: pixels for name, pixels in squeezed.items() if pixels is not None}


def audio_of(stored):
    """``{name: signal (length,)}`` of a cell."""
    if "sample_audio" not in stored:
        return {}
    from benchmark_utils.results.players import decode  # soundfile is of no use elsewhere

    sets = {
        kind: decode(stored[f"{kind}_audio"]) for kind in ("truth", "mixture", "sample") if f"{kind}_audio" in stored
    }
    named = {}
    for kind, signals in sets.items():
        stems = stored["stems"] if len(signals) > 1 else [""]
        named |= {f"{kind}_{stem}".rstrip("_"): signal for stem, signal in zip(stems, signals, strict=True)}
    return named


def traces_of(stored, i):
    """``{name: array}`` of electrocardiogram ``i`` of a cell, as ``store_traces`` says, and the names of the leads."""
    arrays = {name: stored[name][i] for name in ("truth", "seen", "mean", "band")}
    return arrays | {"draws": stored["draws_of_leads"][i], "leads": np.array(LEADS)}


def contents_of(stored, i):
    """``[(what it shows, suffix, content)]`` of image, track or record ``i`` of a cell."""
    if "draws_of_leads" in stored:
        return [("traces", "npz", traces_of(stored, i))]
    if "sample_audio" in stored:
        return [(name, "wav", signal) for name, signal in audio_of(stored).items()]
    return [(name, "png", pixels) for name, pixels in pictures_of(stored, i).items()]


def export(path, folder):
    """Write every stored sample, mean and spread of the results at ``path`` below ``folder``, and ``origin.json``.

    Exits if the results have none.
    """
    df = scores.read_file(path)
    numbers = {task: number for number, task in enumerate(scores.tasks(df), 1)}
    columns = [column for column in df.columns if column.startswith("objective_")]
    origin = []
    stored = df["final_results"] if "final_results" in df else []
    cells = (
        df[[isinstance(found, dict) and bool({"sample", "draws_of_leads"} & set(found)) for found in stored]]
        if len(stored)
        else df[:0]
    )
    for _, cell in cells.iterrows():
        rows = df[(df[CELL] == cell[CELL]).all(axis=1)]
        stored = cell["final_results"]
        signals = stored.get("draws_of_leads", stored.get("sample"))
        for i in range(1 if "sample_audio" in stored else len(signals)):
            row = rows.iloc[i]
            task = (
                f"{numbers[task_label(*row[CELL[:2]])]}_{row['dataset_name'].partition('[')[0]}_{row['objective_task']}"
            )
            image = f"image{row['objective_image']}_{Path(row['objective_file']).stem}"
            place = folder / name_of(task) / name_of(row["solver_name"]) / name_of(image)
            if row["idx_rep"]:
                place = place / f"repetition{row['idx_rep']}"
            values = {c.removeprefix("objective_"): row[c] for c in columns if np.ndim(row[c]) == 0}  # no histograms
            values = {name: value for name, value in values.items() if value == value and value is not None}
            values = {"source": values.pop("file")} | {c: row[c] for c in CELL} | values
            for name, suffix, content in contents_of(stored, i):
                target = place / f"{name}.{suffix}"
                write_atomically(target, lambda partial, content=content: write(partial, content))
                origin.append({"file": target.relative_to(folder).as_posix(), "shows": name} | values)
    if not origin:
        sys.exit(f"{path} has no pictures, audio or electrocardiograms to export")
    report = {"results": path.name, "run": scores.facts(df), "files": origin}
    text = json.dumps(report, indent=1, default=lambda number: number.item())  # numpy's
    write_atomically(folder / "origin.json", lambda partial: partial.write_text(text, encoding="utf-8"))
    print(f"{len(origin)} files and origin.json in {folder}")


def write(path, content):
    """Write a signal (length,) as WAV, a uint8 picture as PNG, named arrays as NPZ."""
    if isinstance(content, dict):
        with open(path, "wb") as file:  # of a path savez would change the suffix
            np.savez_compressed(file, **content)
    elif content.ndim == 1:
        import soundfile

        soundfile.write(path, content, SAMPLE_RATE, format="WAV", subtype="PCM_16")
    else:
        Image.fromarray(content).save(path, "PNG")
