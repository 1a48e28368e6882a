import pytest
import torch

from fgvc.errors import UsageError
from fgvc.methods.backbone import Backbone
from fgvc.methods.few_shot.prototypes import PrototypeClassifier
from fgvc.methods.recognizers.enrolled import EnrolledRecognizer
from fgvc.methods.recognizers.whole_image import WholeImage
from fgvc.taxonomy.tree import Taxonomy

OLD = Taxonomy.flat(["a", "b", "c"])


def network(taxonomy, image_size):
    return WholeImage(taxonomy, image_size, lambda size: Backbone(size, "test_resnet", "none"))


def enrolled(classes=("x", "y"), keep_old=False, length_one=False, shots=3):
    torch.manual_seed(0)
    names = [*(OLD.names("class") if keep_old else ()), *classes]
    model = EnrolledRecognizer(
        Taxonomy.flat(names), 32, network, OLD.to_plain(), PrototypeClassifier,
        [len(classes) * shots, 96], length_one, keep_old,
    ).eval()  # fmt: skip
    offset = 3 if keep_old else 0
    pictures = torch.randint(0, 256, (len(classes) * shots, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        model.support.copy_(model.recognizer(pictures).embedding)
    model.support_labels.copy_(torch.arange(len(classes)).repeat_interleave(shots) + offset)
    if keep_old:
        model.old_leaves.copy_(torch.arange(3))
    return model, pictures


def test_a_photograph_is_compared_with_the_mean_of_each_class():
    model, pictures = enrolled()
    with torch.no_grad():
        found = model(pictures[:2]).logits["class"]
        seen = model.recognizer(pictures).embedding
    means = seen.view(2, 3, -1).mean(dim=1)
    torch.testing.assert_close(found, -(seen[:2, None] - means).square().sum(dim=2), rtol=1e-4, atol=1e-4)


def test_centre_and_length_one():
    model, pictures = enrolled(length_one=True)
    model.centre.fill_(0.5)
    with torch.no_grad():
        found = model(pictures[:2]).logits["class"]
        seen = model.recognizer(pictures).embedding - 0.5
    seen = seen / seen.norm(dim=1, keepdim=True)
    means = seen.view(2, 3, -1).mean(dim=1)
    torch.testing.assert_close(found, -(seen[:2, None] - means).square().sum(dim=2), rtol=1e-4, atol=1e-4)


def test_old_classes_keep_their_logits_beside_the_new_ones():
    model, pictures = enrolled(keep_old=True)
    model.scale.fill_(2.0)
    model.shift.fill_(0.25)
    with torch.no_grad():
        seen, both = model.recognizer(pictures), model(pictures)
        new = model.scores(seen.embedding)
    assert torch.equal(both.logits["class"][:, :3], seen.logits["class"])
    torch.testing.assert_close(both.logits["class"][:, 3:], 2 * new + 0.25)
    assert torch.equal(both.embedding, seen.embedding)


@pytest.mark.parametrize("shape", [[3], [0, 512], [3, 4, 5]])
def test_a_support_without_numbers_is_refused(shape):
    with pytest.raises(UsageError, match=r"support_shape: .* it is \[M, D\]"):
        EnrolledRecognizer(OLD, 32, network, OLD.to_plain(), PrototypeClassifier, shape)


def test_classes_that_are_none_are_refused():
    with pytest.raises(UsageError, match="known: no classes"):
        EnrolledRecognizer(OLD, 32, network, {"levels": ["class"]}, PrototypeClassifier, [2, 512])
