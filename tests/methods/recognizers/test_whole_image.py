from functools import partial

import torch
from fakes.tiny_model import TAXONOMY

from fgvc.images.regions import downscale
from fgvc.methods.backbone import Backbone
from fgvc.methods.heads.cosine import CosineHead
from fgvc.methods.recognizers.whole_image import WholeImage

TINY = partial(Backbone, name="test_resnet", weights="none")


def test_larger_images_are_downscaled_before_the_backbone_and_the_head_answers():
    model = WholeImage(TAXONOMY, 32, TINY, partial(CosineHead, scale=8.0)).eval()
    images = torch.randint(256, (2, 3, 80, 80), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    answer = model(images)
    by_hand = model.head(model.backbone(downscale(images, 32)))
    assert torch.equal(answer.logits["species"], by_hand.logits["species"])
    assert answer.logits["species"].shape == (2, 5)
    labels = torch.tensor([0, 4])
    assert torch.equal(model.loss(answer, labels)["classes"], model.head.loss(by_hand, labels)["classes"])
