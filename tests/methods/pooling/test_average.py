import torch

from fgvc.methods.pooling.average import AveragePooling


def test_it_is_the_sum_over_positions_divided_by_their_number():
    features = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    expected = [[sum(channel.flatten().tolist()) / 20 for channel in image] for image in features]
    torch.testing.assert_close(AveragePooling(3)(features), torch.tensor(expected))
