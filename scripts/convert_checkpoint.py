"""Convert the published checkpoint of a 256-px prior to the safetensors file the benchmark loads.

    python scripts/convert_checkpoint.py ffhq256 ffhq_10m.pt ffhq256.safetensors
    python scripts/convert_checkpoint.py ffhq256_latent ffhq.zip vq-f4.zip ffhq256_latent.safetensors

``benchopt prepare`` does this by itself for the published checkpoints. This is for another one of the same
architecture: name the result in the environment variable FFHQ256_PATH (IMAGENET256_PATH, FFHQ256_LATENT_PATH) or in
``data_paths`` of config.yml.
"""

import argparse
from pathlib import Path

from benchmark_utils.files.archives import convert_archives
from benchmark_utils.files.paths import sha256_of
from benchmark_utils.files.weights import convert_file
from benchmark_utils.priors import latent
from benchmark_utils.priors.adm import FFHQ_WEIGHTS, IMAGENET_WEIGHTS

WEIGHTS = {weights.name: weights for weights in (FFHQ_WEIGHTS, IMAGENET_WEIGHTS, latent.FFHQ_WEIGHTS)}


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prior", choices=WEIGHTS)
    parser.add_argument("checkpoints", type=Path, nargs="+", help="the .pt file, or ffhq.zip and vq-f4.zip")
    parser.add_argument("output", type=Path, help="the .safetensors file to write")
    options = parser.parse_args(arguments)
    weights = WEIGHTS[options.prior]
    expected = len(weights.files) if weights is latent.FFHQ_WEIGHTS else 1
    if len(options.checkpoints) != expected:
        parser.error(f"{options.prior} is made of {expected} files, got {len(options.checkpoints)}")
    try:
        if weights is latent.FFHQ_WEIGHTS:
            for name, sha256 in convert_archives(options.checkpoints, weights.converters, options.output).items():
                print(f"{name} sha256 {sha256}")
            return
        (checkpoint,) = options.checkpoints
        published = sha256_of(checkpoint) == weights.sha256
        convert_file(checkpoint, weights.convert, options.output)
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")
    print(f"{options.output}: {'the published' if published else 'not the published'} {weights.file}")


if __name__ == "__main__":
    main()
