"""Fit the embedded priors ``ecg_stationary`` and ``ecg_beats`` and pick the shipped test records.

    python -m scripts.train.ecg_gaussian ptbxl_1819_100hz_f16.npz

The archive has ``x_train`` and ``x_test`` (records, 1000, 12) and ``id_test``, each lead of each record with mean 0 and
variance 1. Writes below ``assets/ecg``: ``ecg_stationary.safetensors``, the lagged covariances of the training records;
``ecg_beats.safetensors``, one component of rank 64 of their beats, whose maximum likelihood is a closed form (Tipping
and Bishop 1999, "Probabilistic principal component analysis"); ``ptbxl_test.safetensors``, 20 records, evenly spaced
among those of the test part. Then it prints the error of the exact posterior means on the whole test part, by the
shipped files, whose content must be listed in ``assets/SHA256SUMS``.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from benchmark_utils.files.ptbxl import LEADS as NAMES
from benchmark_utils.files.ptbxl import choose_cut, cut_beats
from benchmark_utils.metrics import mean_and_ci
from benchmark_utils.noise import GaussianNoise
from benchmark_utils.operators.leads import lead_mask
from benchmark_utils.priors import Prior
from benchmark_utils.problem import InverseProblem, capabilities
from benchmark_utils.rng import RNG
from datasets.ptbxl import NOISE_STD
from scripts.train.ecg import LEADS

N_LAGS, RANK, N_SHIPPED = 500, 64, 20
MEASURED = [
    (name, "lead", leads)
    for name in ("ecg_stationary", "ecg_beats")
    for leads in (("I",), ("I", "II"), ("I", "II", "V2"))
]
MEASURED += [("ecg_beats", "block", ()), ("ecg_beats", "gap", ())]


def lagged_covariances(records):
    """``E[x_a(t + k) x_b(t)]``, k = 0 .. 499, (leads, leads, lags), of records (n, leads, length)."""
    length = records.shape[2]
    spectra = torch.fft.rfft(records, 2 * length)
    products = torch.einsum("naf,nbf->abf", spectra, spectra.conj())
    n_pairs = len(records) * (length - torch.arange(N_LAGS))
    return torch.fft.irfft(products, 2 * length)[..., :N_LAGS] / n_pairs


def fit_beats(beats):
    """Mean, factors and noise of beats (n, leads, time) as a mixture of one component."""
    flat = beats.flatten(1)
    eigenvalues, vectors = torch.linalg.eigh(flat.mT.cov())
    noise = eigenvalues[:-RANK].mean()
    factors = (vectors[:, -RANK:] * (eigenvalues[-RANK:] - noise).sqrt()).contiguous()
    return {"means": flat.mean(0)[None], "factors": factors[None], "isotropic": noise.sqrt()[None]}


def posterior_mean_error(name, task, leads, records):
    """MAE of the exact posterior mean over the hidden entries of records (n, leads, 1000), and that of zeros."""
    prior, noise, numbers = Prior(name), GaussianNoise(NOISE_STD[task]), tuple(range(len(records)))
    cut = choose_cut(prior)
    x = torch.stack([cut(record, name=f"record {i}") for i, record in enumerate(records)])
    operator = lead_mask(task, prior.signal_shape, numbers, [NAMES.index(lead) for lead in leads]).double()
    stream = RNG(0, "measurement", task, numbers, dtype=torch.float64)
    y = noise.sample(x, stream) * operator.mask
    problem = InverseProblem(operator, noise, y, task, 1, numbers, capabilities=capabilities(operator, noise, prior))
    hidden = (operator.mask == 0).double()
    errors = [
        mean_and_ci(((guess - x).abs() * hidden).sum((1, 2)) / hidden.sum((1, 2)))
        for guess in (prior.load().posterior(problem).mean, torch.zeros_like(x))
    ]
    return "MAE of the posterior mean {:.3f} ± {:.3f}, of zeros {:.3f} ± {:.3f}".format(*errors[0], *errors[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--out", type=Path, default=Path("assets/ecg"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with np.load(args.archive) as archive:
        train, test = (torch.from_numpy(archive[part][..., LEADS]).mT for part in ("x_train", "x_test"))
        ids = torch.from_numpy(archive["id_test"])
    train = train.double()
    save_file({"covariance": lagged_covariances(train).float()}, args.out / "ecg_stationary.safetensors")
    beats = torch.cat([cut_beats(record) for record in train])
    fitted = fit_beats(beats)
    print(f"{len(beats)} beats of {len(train)} records, noise {fitted['isotropic'].item():.3f}")
    tensors = {name: value.half() for name, value in fitted.items()} | {"weights": torch.ones(1).half()}
    save_file(tensors, args.out / "ecg_beats.safetensors")
    chosen = torch.linspace(0, len(test) - 1, N_SHIPPED).round().long()
    shipped = {"records": test[chosen].contiguous(), "ecg_id": ids[chosen].int()}
    save_file(shipped, args.out / "ptbxl_test.safetensors")
    for name, task, leads in MEASURED:
        measured = posterior_mean_error(name, task, leads, test.double())
        print(f"{name:15} {task:6} {', '.join(leads) or 'all':10} {measured}")


if __name__ == "__main__":
    main()
