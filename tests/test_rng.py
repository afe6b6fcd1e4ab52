import torch

from benchmark_utils.rng import BLOCK, PURPOSES, RNG


def rows(images, draws=None, purpose="sampler", seed=0):
    stream = RNG(seed, purpose, "box", images, draws)
    return torch.cat([stream.randn(3, 5), stream.randn(3, 5), stream.rand(3, 5)], 1)


def test_a_row_does_not_depend_on_its_batch():
    together = rows([3, 4, 5])
    for position, image in enumerate([3, 4, 5]):
        torch.testing.assert_close(together[position : position + 1], rows([image]), rtol=0, atol=0)


def test_streams_differ_by_purpose_image_draw_and_seed():
    variants = [rows([3], purpose=purpose) for purpose in PURPOSES]
    variants += [rows([4]), rows([3], draws=[1]), rows([3], seed=1)]
    for i, first in enumerate(variants):
        for second in variants[i + 1 :]:
            assert not torch.isclose(first, second).any()


def test_requests_larger_than_a_block_and_statistics():
    stream = RNG(0, "sampler", "box", [0, 1], dtype=torch.float64)
    small, large = stream.randn(7), stream.randn(BLOCK + 1)
    assert small.shape == (2, 7) and large.shape == (2, BLOCK + 1)
    assert abs(large.mean()) < 4 / large.numel() ** 0.5
    assert abs(large.var() - 1) < 4 * (2 / large.numel()) ** 0.5
    assert not torch.isclose(large[0], large[1]).any()


def test_consecutive_requests_never_repeat_numbers():
    stream = RNG(0, "sampler", "box", [0])
    numbers = torch.cat([stream.randn(1000).flatten() for _ in range(20)])
    assert numbers.unique().numel() > 0.999 * numbers.numel()


def test_particles_belong_to_an_image_and_the_shared_stream_to_nobody():
    both = RNG(0, "sampler", "box", [7, 7, 8, 8], [0, 1, 0, 1])
    alone = RNG(0, "sampler", "box", [8, 8], [0, 1])
    torch.testing.assert_close(both.particles(3).randn(2)[3:], alone.particles(3).randn(2), rtol=0, atol=0)
    assert both.shared.integers(1 << 30) == alone.shared.integers(1 << 30)
