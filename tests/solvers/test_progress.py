"""The progress bar of a cell: images, steps and time left on a terminal, nothing elsewhere."""

import contextlib
import fcntl
import os
import pty
import re
import struct
import sys
import termios
import threading
import time
from dataclasses import replace

from helpers import draw, fingerprint_problem

from benchmark_utils.sampler import PosteriorSampler


class Solver(PosteriorSampler):
    name = "five_steps"

    def sample(self, problem, prior, rng):
        for _ in self.progress(range(5)):
            time.sleep(0.15)  # tqdm draws every 0.1 s
        return rng.randn(*prior.event_shape)


def run_four_images():
    problem, prior = fingerprint_problem()
    problem = replace(problem, y=problem.y.expand(4, -1), images=(0, 1, 2, 3))
    draw(Solver, problem, prior, 1, batch_size=2)


def test_a_terminal_shows_images_steps_of_the_cell_and_time_left(monkeypatch):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    shown = []

    def read():  # all the time: a full terminal blocks who writes to it
        with contextlib.suppress(OSError):  # the end of what a terminal shows
            while True:
                shown.append(os.read(ours, 4096))

    reader = threading.Thread(target=read)
    reader.start()
    with open(theirs, "w") as stderr, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stderr)
        run_four_images()
    reader.join()
    os.close(ours)
    text = b"".join(shown).decode()
    assert re.search(r"five_steps, images 1-2 of 4: .* 3/10 \[00:00<00:0\d", text)
    assert re.search(r"five_steps, images 3-4 of 4: .* 8/10 \[00:00<00:0\d", text)


def test_no_bar_without_a_terminal(capfd):
    run_four_images()
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""
