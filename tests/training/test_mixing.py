import numpy as np
import pytest
import torch
from scipy import stats

from fgvc.errors import UsageError
from fgvc.training.mixing import Mixed, by_weight, cut_box, cutmix, mix, mixed_terms, mixup


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


class Keeper(torch.nn.Module):
    """Its loss is a label's value; it keeps, written in place, a mean of the labels and a count, and a tensor anew."""

    def __init__(self):
        super().__init__()
        self.deep = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Module())
        self.deep[1].register_buffer("mean", torch.tensor(1.0))
        self.register_buffer("last", torch.tensor(8.0))
        self.register_buffer("calls", torch.tensor(3))
        self.register_buffer("scale", torch.tensor([2.0]))
        self.found = []

    def loss(self, labels):
        self.found.append((self.deep[1].mean.item(), self.last.item(), self.calls.item()))
        mean = labels.float().mean()
        term = self.scale * mean
        self.deep[1].mean.lerp_(mean, 0.1)
        self.last = mean
        self.calls.add_(1)
        return {"term": term[0], "constant": torch.tensor(5.0)}


@pytest.mark.parametrize(("lam", "mean", "last"), [(1.0, 1.1, 2.0), (0.75, 1.2, 3.0), (0.5, 1.3, 4.0), (0.0, 1.5, 6.0)])
def test_what_a_loss_keeps_moves_once_by_the_shares_of_the_labels(lam, mean, last):
    # The labels' mean is 2, that of the partners 6; a tenth of the way from 1 is 1.1 and 1.5.
    keeper, labels = Keeper(), torch.tensor([2, 2, 6, 6])
    kept = dict(keeper.named_buffers())
    mixed = Mixed(torch.zeros(0), torch.tensor([2, 3, 2, 3]), lam)
    terms = mixed_terms(keeper, lambda nodes: keeper.loss(nodes[:2]), labels, mixed)
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(
        {"term": 4 * lam + 12 * (1 - lam), "constant": 5}
    )
    assert keeper.deep[1].mean.item() == pytest.approx(mean)
    assert keeper.last.item() == pytest.approx(last)
    assert keeper.calls.item() == 4
    assert set(keeper.found) == {(1.0, 8.0, 3)}  # both calls start from the same state
    if lam < 1:
        assert dict(keeper.named_buffers()) == kept  # DDP broadcasts the tensors that it knows


def test_a_buffer_that_no_loss_moves_is_not_written_to():
    net = torch.nn.BatchNorm1d(3).eval()  # its gradient needs the running variance of the forward pass
    weight = torch.nn.Parameter(torch.ones(3))
    answer = net(weight * torch.arange(12.0).view(4, 3))
    mixed = Mixed(torch.zeros(0), torch.tensor([1, 0]), 0.3)
    terms = mixed_terms(net, lambda labels: {"sum": (answer[:2] * labels[:, None]).sum()}, torch.tensor([1, 2]), mixed)
    terms["sum"].backward()
    shares = [0.3 * 1 + 0.7 * 2, 0.3 * 2 + 0.7 * 1]
    by_hand = [sum(s * x for s, x in zip(shares, column, strict=True)) for column in ((0, 3), (1, 4), (2, 5))]
    torch.testing.assert_close(weight.grad, torch.tensor(by_hand) / (1 + net.eps) ** 0.5)


def test_a_loss_that_fails_leaves_the_buffers_in_their_place():
    keeper = Keeper()
    kept = {name: (buffer, buffer.item()) for name, buffer in keeper.named_buffers()}

    def loss(labels):
        keeper.loss(labels)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        mixed_terms(keeper, loss, torch.tensor([1, 2]), Mixed(torch.zeros(0), torch.tensor([1, 0]), 0.3))
    assert all(buffer is kept[name][0] and buffer.item() == kept[name][1] for name, buffer in keeper.named_buffers())


def no_mix(n):
    return Mixed(torch.zeros(0), torch.arange(n), 1.0)


def mean_of_known(values):
    """Return a loss: the mean of the values (N,) of the images whose label is known."""
    return lambda labels: {"term": values[labels >= 0].mean()}


def weighted_by_hand(values, labels, weights):
    known = [
        (v, w) for v, label, w in zip(values.tolist(), labels.tolist(), weights.tolist(), strict=True) if label >= 0
    ]
    return sum(v * w for v, w in known) / sum(w for _, w in known)


LABELS = torch.tensor([2, 0, -1, 1, 1, 0, 2])
WEIGHTS = torch.tensor([1.0, 0.5, 0.25, 0.5, 1.0, 0.25, 0.5])


def test_a_weighted_loss_is_the_weighted_mean_over_the_known():
    values = torch.arange(7, dtype=torch.float64) ** 2
    terms = mixed_terms(torch.nn.Module(), mean_of_known(values), LABELS, no_mix(7), WEIGHTS)
    assert terms["term"].item() == pytest.approx(weighted_by_hand(values, LABELS, WEIGHTS), rel=1e-12)


def test_weights_go_with_the_partners_of_a_mixed_batch():
    values, permutation, lam = torch.arange(7, dtype=torch.float64) ** 2, torch.tensor([3, 0, 6, 2, 4, 1, 5]), 0.3
    mixed = Mixed(torch.zeros(0), permutation, lam)
    terms = mixed_terms(torch.nn.Module(), mean_of_known(values), LABELS, mixed, WEIGHTS)
    other = weighted_by_hand(values, LABELS[permutation], WEIGHTS[permutation])
    expected = lam * weighted_by_hand(values, LABELS, WEIGHTS) + (1 - lam) * other
    assert terms["term"].item() == pytest.approx(expected, rel=1e-12)


def test_what_a_loss_keeps_moves_by_the_shares_of_the_weights():
    # two images of weight 1 and two of 1/2: shares 2/3 and 1/3; the labels' means are 2 and 5 with -1 counted as it is
    keeper, labels = Keeper(), torch.tensor([5, 5, 11, 11])
    terms = mixed_terms(keeper, keeper.loss, labels, no_mix(4), torch.tensor([1.0, 1.0, 0.5, 0.5]))
    assert keeper.found == [(1.0, 8.0, 3)] * 2
    assert terms["term"].item() == pytest.approx(2 / 3 * 4 + 1 / 3 * 10) and terms["constant"].item() == 5
    assert keeper.deep[1].mean.item() == pytest.approx(2 / 3 * 1.1 + 1 / 3 * 1.4)
    assert keeper.calls.item() == 4


@pytest.mark.parametrize("weights", [None, torch.ones(7), torch.full((7,), 0.5), torch.where(LABELS < 0, 9.0, 2.0)])
def test_images_that_weigh_the_same_are_one_plain_call(weights):
    found = []

    def loss(labels):
        found.append(labels)
        return {"term": torch.tensor(1.25)}

    assert mixed_terms(torch.nn.Module(), loss, LABELS, no_mix(7), weights) == {"term": torch.tensor(1.25)}
    assert len(found) == 1 and found[0] is LABELS


def test_a_batch_without_any_label_is_one_plain_call():
    assert by_weight(torch.full((3,), -1), torch.tensor([1.0, 0.5, 0.5]))[0][1] == 1


def test_shares_sum_to_one():
    assert sum(share for _, share in by_weight(LABELS, WEIGHTS)) == pytest.approx(1, abs=1e-12)
