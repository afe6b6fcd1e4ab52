"""What bfloat16 changes: LPIPS of the same samples with networks in bfloat16 and in float32, image by image.

    python -m scripts.measure.precision --images 3 --results precision.csv

A short MGDM runs on every task of the embedded prior below, in both precisions with the same seeds.
"""

import argparse
from pathlib import Path

import pandas as pd
import torch

from benchmark_utils.evaluate import objective_of, score
from datasets.ffhq_deblurring import Dataset as Deblurring
from datasets.ffhq_hdr import Dataset as HDR
from datasets.ffhq_inpainting import Dataset as Inpainting
from datasets.ffhq_jpeg import Dataset as JPEG
from datasets.ffhq_super_resolution import Dataset as SuperResolution
from scripts.measure.common import interval, markdown
from solvers.mgdm import Solver as MGDM

SHORT = {"n_steps": 12, "n_denoise": 5, "gradient_steps": (5, 5)}
TASKS = {
    "box": (Inpainting, {"mask": "box"}),
    "half": (Inpainting, {"mask": "half"}),
    "random": (Inpainting, {"mask": "random"}),
    "sr4": (SuperResolution, {"factor": 4}),
    "sr16": (SuperResolution, {"factor": 16}),
    "gaussian_blur": (Deblurring, {"blur": "gaussian"}),
    "motion_blur": (Deblurring, {"blur": "motion"}),
    "jpeg2": (JPEG, {}),
    "hdr": (HDR, {}),
}


def lpips(dataset, precision):
    """LPIPS of each image of a dataset in one precision."""
    return score(MGDM.get_instance(**SHORT), objective_of(dataset, precision=precision)).lpips


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=3)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--results", type=Path, default=Path("precision.csv"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for task in arguments.tasks:
        Dataset, parameters = TASKS[task]
        dataset = Dataset.get_instance(n_images=arguments.images, **parameters)
        scores = {precision: lpips(dataset, precision) for precision in ("float32", "bfloat16")}
        rows.append(pd.DataFrame(scores).rename_axis("image").reset_index().assign(task=task))
        pd.concat(rows).to_csv(arguments.results, index=False)
        print(f"{task}: done", flush=True)
    found = pd.concat(rows)
    found["difference"] = found.bfloat16 - found.float32
    print(markdown(found.pivot(index="task", columns="image", values="difference").round(4).reset_index()))
    print(f"mean paired difference over {len(found)} images, with its 95 % interval: {interval(found.difference, 4)}")


if __name__ == "__main__":
    main()
