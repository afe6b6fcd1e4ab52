"""Train the embedded prior ``ecg`` and write ``<out>/ecg.safetensors`` in half precision.

    python -m scripts.train.ecg ptbxl_1819_100hz_f16.npz

The archive has ``x_train`` and ``x_val`` (records, 1000, 12), each lead of each record with mean 0 and variance 1.
The network sees windows of 512 samples from anywhere in the training records. Denoising errors are those of the middle,
samples 244 to 755, of the validation records and of every eighth training record. The loss is the EDM denoising loss
with ln sigma ~ N(-0.6, 1.4^2).
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from benchmark_utils.files.weights import load_networks
from benchmark_utils.priors import Prior
from benchmark_utils.priors.ecg import ECGUNet
from scripts.train.loop import add_arguments, denoising_loss, draw_sigmas, print_errors, train

EVALUATED_SIGMAS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
LEADS = [0, 1, 2, 6, 7, 8, 9, 10, 11]
LENGTH, FIRST = 512, 244


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("archive", type=Path)
    add_arguments(parser, "outputs/train_ecg", minutes=85, cool_down=30, batch_size=16, evaluate_every=20)
    args = parser.parse_args()

    with np.load(args.archive) as archive:
        records, validation = (
            torch.from_numpy(archive[part][..., LEADS]).mT.float().to(args.device) for part in ("x_train", "x_val")
        )
    middle = slice(FIRST, FIRST + LENGTH)
    measured = {"held-out": validation[..., middle].contiguous(), "training": records[::8, :, middle].contiguous()}
    windows = records.unfold(2, LENGTH, 1)  # (records, 9, positions, 512), a view
    torch.manual_seed(0)
    network = ECGUNet()
    if args.start:
        load_networks(args.start, {"": network})
    print(f"{sum(parameter.numel() for parameter in network.parameters()) / 1e6:.2f} M parameters", flush=True)

    def loss_of_batch(denoiser, generator):
        options = {"generator": generator, "device": args.device}
        record = torch.randint(len(records), (args.batch_size,), **options)
        position = torch.randint(windows.shape[2], (args.batch_size,), **options)
        sigma = draw_sigmas(args.batch_size, -0.6, 1.4, (ECGUNet.SIGMA_MIN, ECGUNet.SIGMA_MAX), generator)
        return denoising_loss(denoiser, windows[record, :, position], sigma, ECGUNet.SIGMA_DATA, generator)

    def evaluate(denoiser):
        print_errors(denoiser, measured, EVALUATED_SIGMAS)

    stationary = Prior("ecg_stationary").load(args.device)
    print("the stationary Gaussian", flush=True)
    evaluate(lambda x, sigma: stationary.denoise_sigma(x.double(), sigma))
    # compiled by torch 2.14 for a CPU it is no faster, and its loss became NaN within 560 steps
    train(network, loss_of_batch, evaluate, "ecg", args, compile=False)


if __name__ == "__main__":
    main()
