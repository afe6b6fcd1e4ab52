"""The count of live tensors."""

import torch

from scripts.measure.mgdm_memory import LiveTensors


def test_a_tensor_counts_while_it_lives_and_a_view_does_not():
    with LiveTensors() as counted:
        x = torch.zeros(1000, dtype=torch.float64)
        x[:500].add_(1)
        assert counted.live == counted.peak == 8000
        y = x + 1
        assert counted.live == 16000
        del x, y
        z = torch.zeros(10, dtype=torch.float64)
        assert counted.live == z.nbytes and counted.peak == 16000


def test_a_graph_keeps_what_a_gradient_needs():
    def peak(differentiate):
        with LiveTensors() as counted:
            x = torch.ones(1000, dtype=torch.float64, requires_grad=differentiate)
            for _ in range(10):
                x = x.exp()
        return counted.peak

    assert peak(True) >= 11 * 8000 and peak(False) <= 3 * 8000
