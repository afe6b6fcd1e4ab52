"""PTB-XL of the user's folder: WFDB records as the package ``wfdb`` writes them, read back, and what is refused."""

import sys

import numpy as np
import pytest
import torch

from benchmark_utils.evaluate import objective_of
from benchmark_utils.files.ptbxl import read_fold, read_record
from datasets.ptbxl import Dataset
from solvers.regression import Solver as Regression

wfdb = pytest.importorskip("wfdb", reason="records of PTB-XL need wfdb: pip install .[ecg]")
TWELVE = ("I", "II", "III", "AVR", "AVL", "AVF", "V1", "V2", "V3", "V4", "V5", "V6")
OWN_PRIOR = """
import torch
from benchmark_utils.priors.base import LoadedPrior
from benchmark_utils.schedule import NoiseSchedule

class OfMillivolts(LoadedPrior):
    event_shape = signal_shape = (9, 512)
    family, signal_range = "ecg", 5
    dtype = torch.float64

    def __init__(self, device):
        self.device, self.schedule = torch.device(device), NoiseSchedule.linear()

    def denoise_sigma(self, x, sigma):
        return x / (1 + sigma**2)
"""


def tones(length=1000, rate=100):
    """A 6-Hz tone in mV whose size and offset tell the leads apart, a slow drift and 48-Hz hum: (length, 12)."""
    time = np.arange(length)[:, None] / rate
    leads = np.arange(1, 13)
    tone = 0.1 * leads * np.sin(2 * np.pi * 6 * time + leads)
    return tone + 0.5 * leads + np.sin(2 * np.pi * 0.05 * time) + 0.2 * np.sin(2 * np.pi * 48 * time)


def write(folder, name, signals, rate=100, leads=TWELVE, units="mV"):
    folder.mkdir(parents=True, exist_ok=True)
    options = {"units": [units] * len(leads), "fmt": ["16"] * len(leads), "sig_name": list(leads)}
    wfdb.wrsamp(name, fs=rate, p_signal=signals, write_dir=str(folder), **options)
    return folder / name


@pytest.fixture()
def ptbxl(tmp_path, monkeypatch):
    """A PTB-XL folder with three records of fold 10 and one of fold 9."""
    folder = tmp_path / "ptb-xl"
    lines = ["ecg_id,strat_fold,filename_lr"]
    for ecg_id, fold in (17, 10), (3, 9), (40, 10), (41, 10):
        write(folder / "records100" / "00000", f"{ecg_id:05}_lr", tones() * (1 + ecg_id / 100))
        lines.append(f"{ecg_id},{fold},records100/00000/{ecg_id:05}_lr")
    (folder / "ptbxl_database.csv").write_text("\n".join(lines) + "\n")
    monkeypatch.setenv("PTBXL_PATH", str(folder))
    return folder


def test_leads_are_filtered_and_scaled(tmp_path):
    """The tone stays, offset, drift and hum go; mV keeps the sizes that z takes away."""
    path = write(tmp_path, "one", tones())
    z, millivolts = read_record(path, "z"), read_record(path, "mV")
    assert z.shape == millivolts.shape == (9, 1000) and z.dtype == torch.float64
    torch.testing.assert_close(z.std(1, correction=0), torch.ones(9, dtype=torch.float64))
    assert z.mean(1).abs().max() < 1e-12
    numbers = torch.tensor([1, 2, 3, 7, 8, 9, 10, 11, 12], dtype=torch.float64)  # no augmented lead
    time = torch.arange(1000, dtype=torch.float64) / 100
    tone = 0.1 * numbers[:, None] * torch.sin(2 * torch.pi * 6 * time + numbers[:, None])
    assert (millivolts - tone)[:, 200:800].abs().max() < 0.05
    spectrum = torch.fft.rfft(millivolts[:, 200:800]).abs()
    assert spectrum[:, 48 * 6].max() < 0.2 * spectrum[:, 6 * 6].min()


def test_test_fold_in_the_order_of_the_index(ptbxl):
    ids, records = read_fold(10, 1, 2, "z")
    assert ids == [40, 41] and records.shape == (2, 9, 1000)
    data = Dataset.get_instance(records="test", n_records=3, task="gap").get_data()
    assert data["files"] == ("ECG 17", "ECG 40", "ECG 41") and data["x_true"].shape == (3, 9, 512)
    torch.testing.assert_close(data["x_true"][1:], records[..., 244:756])
    assert Dataset.get_instance(records="validation", n_records=1).get_data()["files"] == ("ECG 3",)


def test_millivolts_with_a_prior_of_ones_own(ptbxl, tmp_path):
    prior = tmp_path / "millivolts.py"
    prior.write_text(OWN_PRIOR)
    options = {"records": "test", "n_records": 1, "units": "mV", "prior": str(prior)}
    with pytest.raises(ValueError, match="units=mV needs noise_std, in mV"):
        Dataset.get_instance(**options).get_data()
    found = objective_of(Dataset.get_instance(**options, noise_std=0.01))
    size = found.x_true[0].std(1)
    torch.testing.assert_close(size[1] / size[0], torch.tensor(2.0, dtype=torch.float64), rtol=0.02, atol=0)
    assert found.problem.noise.std == 0.01
    assert (found.prior.family, found.prior.signal_range) == ("ecg", 5)
    skipped, reason = Regression.get_instance().skip(problem=found.problem, prior=found.prior)
    assert skipped and "unit_variance" in reason


def test_package_that_is_missing_is_named(ptbxl, monkeypatch):
    monkeypatch.setitem(sys.modules, "wfdb", None)
    assert "wfdb: pip install wfdb" in Dataset.get_instance(records="test", n_records=3).get_data()["missing"]


def test_records_without_beats_are_named(ptbxl):
    signals = 0.001 * tones()
    signals[10:20] += 5 * np.sin(np.arange(10))[:, None]  # one peak, too near to the start for a window
    write(ptbxl / "records100" / "00000", "00017_lr", signals)
    with pytest.raises(ValueError, match="ECG 17 has no beat with 64 samples around it: leave it out"):
        Dataset.get_instance(records="test", n_records=1, prior="ecg_beats").get_data()


def tones_with(where, values):
    signals = tones()
    signals[where] = values
    return signals


BLIP = np.zeros((1000, 4))
BLIP[500, :3] = 0.01


@pytest.mark.parametrize(
    "signals, options, message",
    [
        (tones(756), {}, "bad.hea has 756 samples, but 10 seconds, 1000, are needed"),
        (tones(), {"rate": 500}, "bad.hea has 500 samples per second, but 100 are needed: give PTB-XL's records100"),
        (tones()[:, :6], {"leads": TWELVE[:6]}, "bad.hea has no lead V1, V2, V3, V4, V5, V6: all of I, II, III"),
        (
            tones_with((123, 7), np.nan),
            {},
            "bad.dat has samples that are no finite numbers, first in lead V2 at 1.23 s",
        ),
        (tones_with(np.s_[:, 10], 0.0), {}, "bad.dat: lead V5 is flat: leave the record out of ptbxl_database.csv"),
        (tones_with(np.s_[:, 10], 0.3), {}, "bad.dat: lead V5 is flat: leave the record out of ptbxl_database.csv"),
        (tones_with(np.s_[:, :4], BLIP), {}, "bad.dat: lead I is flat: leave the record out of ptbxl_database.csv"),
        (tones(), {"units": "uV"}, "bad.hea has a lead in uV, but mV are needed: give PTB-XL's own files"),
    ],
)
def test_records_that_cannot_be_used(tmp_path, signals, options, message):
    path = write(tmp_path, "bad", signals, **options)
    with pytest.raises(ValueError) as caught:
        read_record(path, "z")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "header, message",
    [
        ("bad 0 100 1000", "bad.hea has no lead I, II, III, V1, V2, V3, V4, V5, V6: all of I, II, III"),
        ("bad 1 100 1000\nbad.dat 999 1000(0)/mV", "bad.hea and .dat cannot be read as a WFDB record"),
    ],
)
def test_headers_that_cannot_be_used(tmp_path, header, message):
    (tmp_path / "bad.hea").write_text(header + "\n")
    with pytest.raises(ValueError) as caught:
        read_record(tmp_path / "bad", "z")
    assert message in str(caught.value)


def test_missing_and_cut_off_files(ptbxl):
    path = ptbxl / "records100" / "00000" / "00017_lr"
    content = path.with_suffix(".dat").read_bytes()
    for damage in (lambda file: file.write_bytes(content[:999]), lambda file: file.unlink()):
        damage(path.with_suffix(".dat"))
        with pytest.raises(ValueError, match="00017_lr.hea and .dat cannot be read as a WFDB record"):
            read_fold(10, 0, 1, "z")
    with pytest.raises(ValueError, match="records 2 to 4 are asked for, but fold 10 of .* has 3"):
        read_fold(10, 2, 3, "z")
    (ptbxl / "ptbxl_database.csv").write_text("ecg_id,strat_fold,filename_lr\n1,9,one\n2,10,\n")
    with pytest.raises(ValueError, match="ptbxl_database.csv names no file for ECG 2: download it again"):
        read_fold(10, 0, 1, "z")
    (ptbxl / "ptbxl_database.csv").write_text("ecg_id,strat_fold,filename_lr\n1,10,5\n")
    with pytest.raises(ValueError, match="5.hea and .dat cannot be read as a WFDB record"):
        read_fold(10, 0, 1, "z")
    (ptbxl / "ptbxl_database.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="is not PTB-XL's index"):
        read_fold(10, 0, 1, "z")
    (ptbxl / "ptbxl_database.csv").unlink()
    assert (
        "name its folder by the environment variable PTBXL_PATH"
        in Dataset.get_instance(records="test").get_data()["missing"]
    )
