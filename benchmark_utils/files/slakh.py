"""Read Slakh2100 tracks."""

import re
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
import yaml

from benchmark_utils.files.images import image_files
from benchmark_utils.files.paths import asset, data_home, how_to_name, user_path
from benchmark_utils.metrics import SAMPLE_RATE, STEMS

EXCERPT_TRACK, EXCERPT_FIRST, EXCERPT_LENGTH = 2098, 786_432, 262_144
LENGTH_TOLERANCE = SAMPLE_RATE // 10  # stems of one track may differ by 0.1 s
SOUND_FORMATS = "wav flac ogg mp3"
FOUR_STEMS = ", ".join(f"{stem}.wav" for stem in STEMS)


def read_mono(path):
    """A mono file at 22.05 kHz, (length,) float32; 44.1 kHz is resampled. Raises ValueError, naming the file."""
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        expected = soundfile.info(path).frames
    except soundfile.LibsndfileError as error:
        raise ValueError(f"{path} cannot be decoded: copy or download it again ({error})") from error
    if len(samples) != expected:
        raise ValueError(f"{path} is cut off after {len(samples)} of {expected} samples: copy or download it again")
    if not np.isfinite(samples).all():
        first = np.flatnonzero(~np.isfinite(samples).all(1))[0]
        raise ValueError(f"{path} has samples that are no finite numbers, first at {first / rate:.3f} s: mend the file")
    if samples.shape[1] != 1:
        raise ValueError(f"{path} has {samples.shape[1]} channels, but Slakh2100 is mono: give the original file")
    if not len(samples):
        raise ValueError(f"{path} is empty: copy or download it again")
    if rate not in (SAMPLE_RATE, 2 * SAMPLE_RATE):
        raise ValueError(f"{path} has {rate} samples per second; {SAMPLE_RATE} or {2 * SAMPLE_RATE} are needed")
    return samples[:, 0] if rate == SAMPLE_RATE else soxr.resample(samples[:, 0], rate, SAMPLE_RATE, "VHQ")


def stem_of(description):
    """The stem that an instrument of ``metadata.yaml`` belongs to, or None for one that the task leaves out."""
    instrument = "drums" if description.get("is_drum") else str(description.get("inst_class", "")).lower()
    return instrument if instrument in STEMS else None


def rendered_files(folder):
    """``{stem: files}`` of a track in the published layout: ``metadata.yaml`` and ``stems/SYY.flac``.

    The metadata say ``audio_rendered: false`` of some files that exist, so a file is looked for in any case. That it is
    missing is an error only where they say true.
    """
    try:
        metadata = yaml.safe_load((folder / "metadata.yaml").read_text(encoding="utf-8"))
        instruments = metadata["stems"].items()
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise ValueError(f"{folder / 'metadata.yaml'} does not list `stems`: download it again ({error})") from error
    found = {stem: [] for stem in STEMS}
    for name, description in instruments:
        stem, path = stem_of(description), folder / "stems" / f"{name}.flac"
        if stem is None:
            continue
        if path.is_file():
            found[stem].append(path)
        elif description.get("audio_rendered"):
            raise ValueError(f"{folder / 'metadata.yaml'} lists {name} ({stem}), but there is no {path}: download it")
    return found


def track_files(folder):
    """``{stem: files}`` of a track in either layout: ``metadata.yaml`` with FLAC stems, or one WAV file per stem."""
    if (folder / "metadata.yaml").is_file():
        return rendered_files(folder)
    return {stem: [path] if (path := folder / f"{stem}.wav").is_file() else [] for stem in STEMS}


def read_stems(folder):
    """The four stems of a track at 22.05 kHz, (4, length), instruments of one stem added.

    A stem without a file is silence, as in MSDM (Mariani et al. 2024, https://arxiv.org/abs/2302.02257), but one
    must be there; stems that differ by 0.1 s or less are cut to the shortest. Raises ValueError, naming the file.
    """
    folder = Path(folder)
    files = {path: stem for stem, paths in track_files(folder).items() for path in paths}
    if not files:
        raise ValueError(
            f"{folder} has none of the four stems: it needs {FOUR_STEMS} (22.05 kHz), or metadata.yaml and stems/*.flac"
        )
    audio = {path: read_mono(path) for path in files}
    shortest, longest = (pick(audio, key=lambda path: len(audio[path])) for pick in (min, max))
    length = len(audio[shortest])
    if len(audio[longest]) - length > LENGTH_TOLERANCE:
        raise ValueError(
            f"{longest} is {(len(audio[longest]) - length) / SAMPLE_RATE:.1f} s longer than {shortest.name}: "
            "one of them belongs to another track or is cut off"
        )
    stems = np.zeros((len(STEMS), length), dtype=np.float32)
    for path, stem in files.items():
        stems[STEMS.index(stem)] += audio[path][:length]
    return torch.from_numpy(stems)


def read_excerpt():
    """The shipped excerpt, (4, 262144)."""
    samples, _ = soundfile.read(asset(f"slakh/Track{EXCERPT_TRACK:05d}_{EXCERPT_FIRST}.flac"), dtype="float32")
    return torch.from_numpy(samples.T.copy())


def number_range(text, name):
    """Range of a whole number or of ``"first-last"``, both included; raises ValueError."""
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", str(text))
    if not match or int(match[2] or match[1]) < int(match[1]):
        raise ValueError(f"{name} must be a number or a range such as 1876-2100, got {text!r}")
    return range(int(match[1]), int(match[2] or match[1]) + 1)


def slakh_folder():
    """The user's Slakh2100 folder; raises FileNotFoundError, saying what to do, if there is none."""
    folder = user_path("slakh2100") or data_home() / "slakh2100"
    if not folder.is_dir():
        raise FileNotFoundError(
            f"there is no folder {folder}: put TrackNNNNN folders of Slakh2100 there (below train, validation, test "
            f"or directly), or name yours by {how_to_name('slakh2100')}; `tracks=excerpt` needs none"
        )
    return folder


def find_tracks(folder, numbers):
    """``{number: folder}`` of the tracks of a range; Slakh2100 without its duplicates has gaps, which are skipped."""
    found = {}
    for number in numbers:
        for parent in (folder, folder / "train", folder / "validation", folder / "test"):
            if (parent / f"Track{number:05d}").is_dir():
                found[number] = parent / f"Track{number:05d}"
    if not found:
        raise ValueError(
            f"{folder} has none of Track{numbers[0]:05d} to Track{numbers[-1]:05d}, directly or below train, "
            "validation, test"
        )
    return found


def cut(stems, length, chunks, name):
    """Consecutive chunks (n, 4, length) of stems and their numbers; what is left at the end is dropped.

    ``chunks`` is a range of numbers, or None for all. Raises ValueError if there are none.
    """
    count = stems.shape[1] // length
    numbers = [number for number in chunks or range(count) if number < count]
    if not numbers:
        asked = f"chunks {chunks[0]} to {chunks[-1]} (counted from 0)" if chunks else "one chunk"
        raise ValueError(f"{name} has {count} chunks of {length} samples, but {asked} are asked for")
    return torch.stack([stems[:, i * length : (i + 1) * length] for i in numbers]), numbers


def read_tracks(tracks, length, chunks):
    """``[(track number, name, chunks (n, 4, length), their numbers)]`` of ``"excerpt"`` or of a range of tracks."""
    if tracks == "excerpt":
        audio = {EXCERPT_TRACK: read_excerpt}
    else:
        folders = find_tracks(slakh_folder(), number_range(tracks, "tracks"))
        audio = {number: (lambda folder=folder: read_stems(folder)) for number, folder in folders.items()}
    chunks = None if chunks is None else number_range(chunks, "chunks")
    return [
        (number, f"Track{number:05d}", *cut(read(), length, chunks, f"Track{number:05d}"))
        for number, read in audio.items()
    ]


def read_mixtures(path, length, chunks):
    """``[(number, name, chunks (n, 1, length) at 22.05 kHz, their numbers)]`` of a sound file or a folder of them.

    Raises ValueError, naming the file, for one that cannot be decoded, and for a folder without any.
    """
    paths = image_files(path, SOUND_FORMATS) if path.is_dir() else [path]
    if not paths:
        raise ValueError(f"{path} has no sound files ({SOUND_FORMATS}): name another folder")
    chunks = None if chunks is None else number_range(chunks, "chunks")
    found = []
    for number, file in enumerate(paths):
        try:
            samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise ValueError(f"{file} cannot be decoded: convert it to WAV or FLAC ({error})") from error
        mono = torch.from_numpy(soxr.resample(samples.mean(1), rate, SAMPLE_RATE, "VHQ"))
        found.append((number, file.name, *cut(mono[None], length, chunks, file.name)))
    return found
