import numpy as np
import pytest
import torch
from scipy import stats

from fgvc.errors import UsageError
from fgvc.training.mixing import cut_box, cutmix, mix, mixup


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def photos(n=5, height=7, width=9, dtype=torch.uint8):
    return torch.randint(256, (n, 3, height, width), generator=seeded(9)).to(dtype)


def test_mixup_equals_a_slow_float64_loop():
    images = photos()
    permutation = torch.tensor([2, 0, 1, 3, 4])
    expected = np.empty(images.shape)
    for index in np.ndindex(*images.shape):
        n, *pixel = index
        partner = images[(int(permutation[n]), *pixel)].item()
        expected[index] = 0.3 * images[index].item() + 0.7 * partner
    mixed = mixup(images, permutation, 0.3)
    assert mixed.dtype == torch.float32
    np.testing.assert_allclose(mixed.numpy(), expected, atol=1e-4)


def test_cutmix_equals_a_slow_loop_and_its_share_is_counted_in_pixels():
    images = photos()
    permutation = torch.tensor([2, 0, 1, 3, 4])
    mixed = cutmix(images, permutation, (1, 4, 2, 9))
    own = 0
    for n in range(5):
        for y in range(7):
            for x in range(9):
                inside = 1 <= y < 4 and 2 <= x < 9
                own += n == 0 and not inside
                source = int(permutation[n]) if inside else n
                assert torch.equal(mixed.images[n, :, y, x], images[source, :, y, x])
    assert mixed.images.dtype == torch.uint8
    assert mixed.lam == pytest.approx(own / 63)
    assert torch.equal(images, photos())  # the batch that came in is left alone


@pytest.mark.parametrize("seed", range(20))
def test_the_share_of_cutmix_is_the_area_really_left(seed):
    # Each image is filled with its own number, so that pixels tell where they come from.
    images = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 3, 24, 17).contiguous()
    mixed = mix(images, alpha_cutmix=1.0, generator=seeded(seed))
    for n, partner in enumerate(mixed.permutation.tolist()):
        if partner != n:
            assert (mixed.images[n] == n).double().mean().item() == pytest.approx(mixed.lam)
            assert ((mixed.images[n] == n) | (mixed.images[n] == partner)).all()


def test_mixup_in_a_batch_uses_the_share_and_the_partners_it_reports():
    images = photos(dtype=torch.float64)
    mixed = mix(images, alpha_mixup=0.4, generator=seeded(1))
    expected = mixed.lam * images + (1 - mixed.lam) * images[mixed.permutation]
    torch.testing.assert_close(mixed.images, expected)
    assert sorted(mixed.permutation.tolist()) == list(range(5))
    assert mixed.images.dtype == torch.float64


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_shares_follow_the_beta_distribution(alpha):
    generator = seeded(0)
    shares = [mix(torch.zeros(2, 1, 1, 1), alpha_mixup=alpha, generator=generator).lam for _ in range(3000)]
    assert stats.kstest(shares, stats.beta(alpha, alpha).cdf).pvalue > 0.01
    assert stats.kstest(shares, stats.beta(alpha * 1.5, alpha * 1.5).cdf).pvalue < 0.01  # it can tell them apart


def test_each_of_the_two_is_drawn_half_of_the_time():
    generator = seeded(0)
    images = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
    cut = sum(mix(images, 0.5, 0.5, generator).images.dtype == torch.uint8 for _ in range(1000))
    assert stats.binomtest(cut, 1000, 0.5).pvalue > 0.01


def test_both_off_gives_the_batch_itself():
    images = photos()
    mixed = mix(images)
    assert mixed.images is images
    assert mixed.lam == 1
    assert mixed.permutation.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("alphas", [(0.4, 0.0), (0.0, 1.0), (0.4, 1.0)])
def test_the_generator_alone_decides(alphas):
    first = mix(photos(), *alphas, generator=seeded(4))
    torch.manual_seed(123)
    np.random.seed(123)
    before = torch.get_rng_state()
    again = mix(photos(), *alphas, generator=seeded(4))
    assert torch.equal(first.images, again.images)
    assert (first.lam, first.permutation.tolist()) == (again.lam, again.permutation.tolist())
    assert torch.equal(before, torch.get_rng_state())
    assert mix(photos(), *alphas, generator=seeded(5)).lam != first.lam


def test_without_a_generator_the_seed_of_torch_decides_and_numbers_go_on():
    torch.manual_seed(7)
    first, second = mix(photos(), 0.4), mix(photos(), 0.4)
    torch.manual_seed(7)
    assert mix(photos(), 0.4).lam == first.lam
    assert first.lam != second.lam


@pytest.mark.parametrize("alphas", [(0.4, 0.0), (0.0, 1.0)])
def test_the_memory_layout_is_kept(alphas):
    images = photos().to(memory_format=torch.channels_last)
    assert mix(images, *alphas, generator=seeded(0)).images.is_contiguous(memory_format=torch.channels_last)


def test_a_box_has_the_area_asked_for_and_is_cut_at_the_edge():
    assert cut_box(0.75, (100, 200), (0.5, 0.5)) == (25, 75, 50, 150)
    assert cut_box(0.75, (100, 200), (0.0, 0.99)) == (0, 25, 148, 200)
    assert cut_box(1.0, (100, 200), (0.5, 0.5)) == (50, 50, 100, 100)
    assert cut_box(0.0, (101, 201), (0.5, 0.5)) == (0, 101, 0, 201)


@pytest.mark.parametrize("alphas", [(-0.1, 0.0), (0.0, -1.0)])
def test_a_negative_alpha_is_refused(alphas):
    with pytest.raises(UsageError, match="0 \\(off\\) or above"):
        mix(photos(), *alphas)
