"""Read electrocardiograms: the shipped records, and those of a PTB-XL folder of the user's."""

from functools import partial

import numpy as np
import torch
from scipy.signal import butter, find_peaks, sosfiltfilt

from benchmark_utils.files.paths import asset, data_home, how_to_name, user_path
from benchmark_utils.files.weights import read_safetensors

# aVR, aVL and aVF follow from the first three, but for their scales
LEADS = ("I", "II", "III", "V1", "V2", "V3", "V4", "V5", "V6")
SAMPLE_RATE = 100
RECORD_LENGTH = 1000
WINDOW_LENGTH = 512
BEAT_LENGTH, R_PEAK = 64, 28  # samples of a beat's window, and the position of its R peak
BAND = (0.5, 40.0)  # Hz
UNITS = ("z", "mV")
FOLDS = {"validation": 9, "test": 10}
LEAST_STD = 0.005  # mV, of a lead within BAND: five steps of PTB-XL's numbers
INDEX = "ptbxl_database.csv"


def read_shipped():
    """``(ECG ids, records (20, 9, 1000))``: z-normalised leads of 20 records that no shipped prior was fitted to."""
    tensors = read_safetensors(asset("ecg/ptbxl_test.safetensors"))
    return tensors["ecg_id"].tolist(), tensors["records"].double()


def read_fold(fold, first, n_records, units):
    """``(ECG ids, records (n, 9, 1000))`` of a fold of the user's PTB-XL, in the order of its ``ptbxl_database.csv``.

    Raises FileNotFoundError, saying what to do, without the folder, its index or the package ``wfdb``, and ValueError,
    naming the file, for a record that cannot be used.
    """
    import pandas as pd

    folder = user_path("ptbxl") or data_home() / "ptbxl"
    if not (folder / INDEX).is_file():
        raise FileNotFoundError(
            f"there is no {folder / INDEX}: fetch PTB-XL from https://physionet.org/content/ptb-xl (the folder "
            f"records100 and that file), and name its folder by {how_to_name('ptbxl')}; records=shipped needs none"
        )
    try:
        columns = ["ecg_id", "strat_fold", "filename_lr"]
        index = pd.read_csv(folder / INDEX, usecols=columns, dtype={"filename_lr": str})
    except ValueError as error:
        raise ValueError(f"{folder / INDEX} is not PTB-XL's index: download it again ({error})") from error
    index = index[index["strat_fold"] == fold]
    if index["filename_lr"].isna().any():
        ecg_id = index.loc[index["filename_lr"].isna(), "ecg_id"].iloc[0]
        raise ValueError(f"{folder / INDEX} names no file for ECG {ecg_id}: download it again")
    if not 0 <= first < first + n_records <= len(index):
        raise ValueError(
            f"records {first} to {first + n_records - 1} are asked for, but fold {fold} of {folder / INDEX} has "
            f"{len(index)}, counted from 0: change first and n_records"
        )
    index = index.iloc[first : first + n_records]
    return index["ecg_id"].tolist(), torch.stack([read_record(folder / name, units) for name in index["filename_lr"]])


def read_record(path, units):
    """The nine leads of a WFDB record at 100 Hz, (9, length); ``path`` is that of its files without their ending.

    Band-passed from 0.5 to 40 Hz (Butterworth of order 3, forwards and backwards), then each lead scaled to mean 0 and
    variance 1 with ``units="z"``. Raises FileNotFoundError without the package ``wfdb``, ValueError as above.
    """
    try:
        import wfdb
    except ImportError as error:
        raise FileNotFoundError("records of PTB-XL are read by the package wfdb: pip install wfdb") from error
    try:
        record = wfdb.rdrecord(str(path))
    except (OSError, ValueError, IndexError, KeyError) as error:
        raise ValueError(
            f"{path}.hea and .dat cannot be read as a WFDB record: download them again ({error})"
        ) from error
    if record.fs != SAMPLE_RATE:
        raise ValueError(
            f"{path}.hea has {record.fs:g} samples per second, but {SAMPLE_RATE} are needed: give PTB-XL's records100"
        )
    names = record.sig_name or []
    missing = [lead for lead in LEADS if lead not in names]
    if missing:
        raise ValueError(f"{path}.hea has no lead {', '.join(missing)}: all of {', '.join(LEADS)} are needed")
    columns = [names.index(lead) for lead in LEADS]
    if wrong := [record.units[column] for column in columns if record.units[column] != "mV"]:
        raise ValueError(f"{path}.hea has a lead in {wrong[0]}, but mV are needed: give PTB-XL's own files")
    signals = record.p_signal[:, columns].T
    if not np.isfinite(signals).all():
        lead, sample = np.argwhere(~np.isfinite(signals))[0]
        raise ValueError(
            f"{path}.dat has samples that are no finite numbers, first in lead {LEADS[lead]} at "
            f"{sample / SAMPLE_RATE:.2f} s: leave the record out of {INDEX}"
        )
    if signals.shape[1] < RECORD_LENGTH:
        raise ValueError(
            f"{path}.hea has {signals.shape[1]} samples, but 10 seconds, {RECORD_LENGTH}, are needed: download it again"
        )
    filtered = sosfiltfilt(butter(3, BAND, "bandpass", fs=SAMPLE_RATE, output="sos"), signals)[:, :RECORD_LENGTH]
    std = filtered.std(1, keepdims=True)
    if flat := [lead for lead, of_lead in zip(LEADS, std, strict=True) if of_lead < LEAST_STD]:
        raise ValueError(f"{path}.dat: lead {flat[0]} is flat: leave the record out of {INDEX}")
    if units == "mV":
        return torch.from_numpy(filtered.copy())
    return torch.from_numpy((filtered - filtered.mean(1, keepdims=True)) / std)


def r_peaks(record):
    """Positions of the R peaks of a record (leads, length), where the squared slope of all leads has its maxima.

    The slope's energy is averaged over 7 samples; its maxima lie 35 samples or more apart, the larger first, above a
    quarter of its 99 % quantile.
    """
    energy = np.square(np.diff(np.asarray(record, dtype=float), axis=1)).sum(0)
    energy = np.convolve(energy, np.full(7, 1 / 7), "same")
    return find_peaks(energy, height=0.25 * np.quantile(energy, 0.99), distance=35)[0]


def cut_beats(record):
    """Windows (beats, leads, 64) of a record around each R peak that has room for it."""
    starts = [peak - R_PEAK for peak in r_peaks(record) if R_PEAK <= peak <= record.shape[1] - BEAT_LENGTH + R_PEAK]
    return record.unfold(1, BEAT_LENGTH, 1)[:, starts].movedim(1, 0)


def cut_middle_beat(record, name):
    """The window (leads, 64) of the middle beat; raises ValueError, with the record's ``name``, where it has none."""
    beats = cut_beats(record)
    if not len(beats):
        raise ValueError(f"{name} has no beat with {BEAT_LENGTH} samples around it: leave it out, or take prior=ecg")
    return beats[len(beats) // 2]


def cut_window(record, length, name):
    """The middle ``length`` samples of a record (leads, length); raises ValueError for more samples than it has."""
    if length > record.shape[1]:
        raise ValueError(f"windows of {length} samples are asked for, but {name} has {record.shape[1]}")
    first = (record.shape[1] - length) // 2
    return record[:, first : first + length]


def choose_cut(prior):
    """How a record becomes a signal of ``prior``: a function of it and of its ``name``.

    For ``ecg_beats`` it cuts the middle beat, for any other prior the middle of the record.
    """
    return cut_middle_beat if prior.name == "ecg_beats" else partial(cut_window, length=prior.signal_shape[1])
