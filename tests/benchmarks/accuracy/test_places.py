import pytest
import torch

from benchmarks.accuracy.places import Photograph, scores, table
from fgvc.methods.backbone import Backbone
from fgvc.methods.cells import Cells
from fgvc.methods.features import Features


def seen(box, *head):
    return Photograph(torch.randint(256, (64, 64, 3), dtype=torch.uint8), box, torch.tensor(head).view(-1, 2))


def test_each_photograph_is_scored_before_and_after():
    torch.manual_seed(0)
    backbone = Backbone(64, "test_resnet", "none").eval()
    found = scores(backbone, [seen((0.0, 0.0, 1.0, 1.0), (0.5, 0.5)), seen((0.0, 0.0, 0.1, 0.1))])
    assert set(found) == {"before", "after"} and found["after"].shape == (2, 3)
    assert found["before"][0, 0] > 0.2 and found["before"][1, 1].isnan()  # no point of a head


def test_the_table_tells_means_and_the_paired_interval():
    before = torch.tensor([[0.4, 1.0, 0.1], [0.6, 0.0, 0.1], [0.5, float("nan"), 0.1]])
    after = before + torch.tensor([0.1, 0.0, -0.1])
    lines = table({"before": before, "after": after}).splitlines()
    assert lines[2] == "| IoU with the annotated box | 0.500 | 0.600 | +0.100 (+0.100 to +0.100) |"
    assert lines[3].startswith("| head points in the box | 0.500 | 0.500 | +0.000")
    assert lines[4].startswith("| off to the right | 0.100 | 0.000 | -0.100")


def test_a_map_that_follows_the_mirror_is_not_off_and_one_that_does_not_is():
    class Still(torch.nn.Module):
        def forward(self, images):
            return Features(images.float()[:, :1].mean(dim=2, keepdim=True))

        def cells(self):
            return Cells(0.25)

    pixels = torch.zeros(64, 64, 3, dtype=torch.uint8)
    pixels[:, 16:32] = 255
    picture = Photograph(pixels, (0.25, 0.0, 0.5, 1.0), torch.zeros(0, 2))
    found = scores(Still(), [picture])
    assert found["before"][0, 2] == pytest.approx(0) and found["after"][0, 2] == pytest.approx(0.25)
