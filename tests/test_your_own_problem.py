"""Every block of docs/your_own_problem.md runs as it is written, on generated files."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from benchopt.results import read_results
from diffusers import DDPMPipeline, EDMEulerScheduler
from helpers import ROOT, copied_benchmark
from PIL import Image
from test_images import picture
from test_pipeline import unet

TEXT = (ROOT / "docs" / "your_own_problem.md").read_text()
BLOCKS = re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
FILES = dict(re.findall(r"`(\w+\.py)`:\n\n```python\n(.*?)```", TEXT, re.DOTALL))


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A clone with the files that the page names."""
    folder = copied_benchmark(tmp_path_factory.mktemp("own") / "bench")
    (folder / "photos" / ".thumbnails").mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turned by 90 degrees
    picture(90, 120, 1).save(folder / "photos" / "sideways.jpg", exif=exif)
    picture(80, 80, 2).convert("L").save(folder / "photos" / "grey.png")
    picture(64, 64, 3).convert("RGBA").save(folder / "photos" / "fête.png")
    picture(64, 64, 4).save(folder / "photos" / ".thumbnails" / "hidden.png")
    (folder / "low").mkdir()
    picture(16, 16, 5).save(folder / "low" / "low.png")
    DDPMPipeline(unet(1, (24, 32)), EDMEulerScheduler()).save_pretrained(folder / "my_pipeline")
    for name, content in FILES.items():
        (folder / name).write_text(content)
    return folder


def test_the_page_has_its_blocks():
    assert len(BLOCKS) == 5 and FILES.keys() == {"my_blur.py", "my_prior.py"}


@pytest.mark.slow
@pytest.mark.parametrize("block", BLOCKS, ids=[re.search(r"--output (\w+)", block)[1] for block in BLOCKS])
def test_a_block_runs_as_written(clone, block):
    name = re.search(r"--output (\w+)", block)[1]
    # dps at its published thousand steps takes minutes on a CPU
    block = block.replace("-s dps", '-s "dps[n_steps=5]"')
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "OMP_NUM_THREADS": "1", "BENCHOPT_RAISE_ON_ERROR": "true"}
    done = subprocess.run(["bash", "-ec", block], cwd=clone, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = read_results(clone / "outputs" / f"{name}.parquet")
    n_images = 1 if name == "low" else 3
    assert (rows.groupby("solver_name").size() == n_images).all() and len(rows) == n_images * block.count("-s ")
    assert np.isfinite(rows["objective_data_misfit"]).all()
    if name == "low":
        assert (clone / "restored" / "origin.json").is_file() and len([*(clone / "restored").rglob("*.png")]) == 14
        assert "objective_psnr" not in rows
    else:
        assert np.isfinite(rows["objective_psnr"]).all() and "images were converted" in done.stdout + done.stderr


@pytest.mark.slow
def test_a_changed_operator_is_not_read_from_the_cache(clone):
    """The same command again is cached; with another operator in the file it is not."""
    command = 'benchopt run . -s prior_sample -d "image_folder[path=low,physics=my_blur.py,fit=centre]" --no-plot'
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}

    def run():
        done = subprocess.run(["bash", "-ec", command], cwd=clone, env=environment, capture_output=True, text=True)
        return done.stdout

    run()
    assert "cached" in run()
    (clone / "my_blur.py").write_text(FILES["my_blur.py"].replace("1.0, 1.0", "2.0, 2.0"))
    assert "cached" not in run()
