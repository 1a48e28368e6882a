import numpy as np
import pytest
import torch
from fakes.tiny_model import PLAIN, TAXONOMY
from torch import nn

from fgvc.datatypes import Prediction
from fgvc.errors import UsageError
from fgvc.methods.backbone import Backbone
from fgvc.methods.heads.linear import LinearHead
from fgvc.methods.last_stage import LastStage
from fgvc.methods.recognizers.base import PhasePlan, Recognizer, mean_probability
from fgvc.model_file.architecture import build


@pytest.fixture
def model():
    torch.manual_seed(0)
    return build(PLAIN, TAXONOMY, 32)


def statistics(model) -> list[torch.Tensor]:
    return [buffer.clone() for name, buffer in model.named_buffers() if name.endswith(("running_mean", "running_var"))]


def step(model) -> None:
    images = torch.randint(256, (8, 3, 32, 32), generator=torch.Generator().manual_seed(1)).float()
    loss = model.loss(model(images), torch.arange(8) % 5)
    sum(loss.values()).backward()


def test_all_trains_everything(model):
    before = statistics(model)
    model.train()
    step(model)
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert not any(torch.equal(a, b) for a, b in zip(before, statistics(model), strict=True))


def test_head_freezes_the_backbone_and_its_batch_statistics_even_after_train_is_called_again(model):
    before = statistics(model)
    assert before
    model.train()
    model.enter("head")
    for _ in range(2):
        step(model)
        model.eval()
        model.train()
    assert all(torch.equal(a, b) for a, b in zip(before, statistics(model), strict=True))
    assert all(parameter.grad is None for parameter in model.backbone.parameters())
    assert all(parameter.grad is not None for parameter in model.head.parameters())
    assert model.head.training
    assert not any(module.training for module in model.backbone.modules())


def test_going_back_to_all_thaws(model):
    model.train()
    model.enter("head")
    model.enter("all")
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())
    model.eval()
    model.enter("all")
    assert not any(module.training for module in model.modules())


def test_an_unknown_phase_is_refused_before_anything_changes(model):
    with pytest.raises(UsageError, match=r"phase 'haed': WholeImage knows \['all', 'head'\]; did you mean 'head'"):
        model.enter("haed")
    assert model.phase == "all"
    assert [type(backbone) for backbone in model.backbones()] == [Backbone]


@pytest.mark.parametrize("learn", [False, True])
def test_a_parameter_that_never_learns_stays_so_in_every_phase(learn):
    pooling = {"class_path": "GeMPooling", "init_args": {"learn_power": learn}}
    head = {"class_path": "LinearHead", "init_args": {"pooling": pooling}}
    model = build({**PLAIN, "init_args": {**PLAIN["init_args"], "head": head}}, TAXONOMY, 32)
    # one inside the backbone, where the phase itself freezes and thaws
    fixed = next(model.backbone.parameters()).requires_grad_(False)
    for phase in ("all", "head", "head", "all", "head", "all"):
        model.enter(phase)
        assert model.head.pooling.power.requires_grad is learn
        assert not fixed.requires_grad
        rest = [p for p in model.backbone.parameters() if p is not fixed]
        assert {p.requires_grad for p in rest} == {phase == "all"}


@pytest.fixture
def branched():
    """A recognizer whose head has phases of its own, and a copy of the last stage for each branch but one."""
    torch.manual_seed(0)
    head = {"class_path": "HSEHead", "init_args": {"embedding_width": 4, "guide_width": 4}}
    return build({**PLAIN, "init_args": {**PLAIN["init_args"], "head": head}}, TAXONOMY, 32)


def moved(model, phase) -> set[str]:
    """Return what a step of a phase would change: the names of parameters with a gradient, and of statistics."""
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model.zero_grad()
    model.train()
    model.enter(phase)
    step(model)
    changed = {name for name, buffer in model.named_buffers() if not torch.equal(buffer, before[name])}
    return changed | {name for name, parameter in model.named_parameters() if parameter.grad is not None}


def test_heads_and_last_stages_are_found_wherever_they_are(model, branched):
    assert list(model.all_heads()) == [model.head] and list(model.last_stages()) == []
    assert list(branched.all_heads()) == [branched.head]
    copies = list(branched.last_stages())
    assert len(copies) == 4 and all(isinstance(copy, LastStage) for copy in copies)


def test_head_freezes_the_copies_of_the_last_stage_too(branched):
    found = moved(branched, "head")
    assert found and not any("backbone" in name or ".steps." in name for name in found)
    learning = {name for name, _ in branched.head.named_parameters(prefix="head") if ".steps." not in name}
    assert found == learning
    for copy in branched.last_stages():
        assert not any(module.training for module in copy.modules())


def test_a_phase_of_a_head_is_told_to_it_and_all_takes_it_back(branched):
    everything = moved(branched, "all")
    assert {name for name, _ in branched.named_parameters()} <= everything
    found = moved(branched, "level2")
    assert branched.head.phase == branched.phase == "level2"
    assert found and all(name.startswith("head.levels.1.") for name in found)
    branched.eval()
    branched.train()  # as Lightning does after each validation
    assert not any(module.training for module in branched.backbone.modules())
    assert moved(branched, "all") == everything
    assert branched.head.phase == "all"


def test_an_unknown_phase_is_refused_with_the_heads_phases(branched):
    known = r"\['all', 'head', 'level1', 'level2', 'level3'\]; did you mean 'level"
    with pytest.raises(UsageError, match=rf"phase 'level4': WholeImage knows {known}"):
        branched.enter("level4")
    assert branched.phase == branched.head.phase == "all"


class Staged(LinearHead):
    """A head with a phase of its own, in which the backbone that it reads stands still."""

    phases = ("calm",)

    def frozen(self, phase, backbone):
        assert phase == "calm"
        yield backbone


class Several(Recognizer):
    """Backbones, heads, and a part that is neither."""

    def __init__(self, backbones, heads):
        super().__init__(TAXONOMY, 32)
        self.locator = nn.Linear(2, 2)
        self.trunks = nn.ModuleList(Backbone(32, "test_resnet", "none") for _ in range(backbones))
        self.names = nn.ModuleList(kind(TAXONOMY, self.trunks[0]) for kind in heads)

    def forward(self, images):
        raise NotImplementedError

    def loss(self, prediction, labels):
        raise NotImplementedError


def still(model) -> set[str]:
    return {name for name, part in model.named_parameters() if not part.requires_grad}


@pytest.mark.parametrize(
    ("backbones", "heads", "frozen"),
    [
        (1, [Staged, Staged], ["trunks.0."]),  # shared
        (2, [Staged, LinearHead], ["trunks.0."]),
        (2, [LinearHead, Staged], ["trunks.1."]),
        (2, [LinearHead, LinearHead, Staged], ["trunks.1."]),  # the closer looks share the second
        (3, [Staged, LinearHead, Staged], ["trunks.0.", "trunks.2."]),
    ],
)
def test_each_head_is_handed_the_backbone_that_it_reads_and_other_parts_stand_still(backbones, heads, frozen):
    model = Several(backbones, heads)
    model.enter("calm")
    assert [head.phase for head in model.all_heads()] == ["calm"] * len(heads)
    expected = {name for name, _ in model.named_parameters() if name.startswith(("locator.", *frozen))}
    assert still(model) == expected
    model.enter("all")
    assert still(model) == set()


class Tabled(Several):
    """A recognizer with a table of its own, and a part that this one does without."""

    phases = Recognizer.phases | {
        "second": PhasePlan(terms=("guess",), still=("trunks.0", "absent")),
        "trunks": PhasePlan(still=(nn.Linear,)),
    }
    heads_plan = PhasePlan(terms=("calm",))
    absent = None


def test_the_table_says_what_stands_still_by_name_or_by_class_and_which_terms_count():
    model = Tabled(2, [Staged, LinearHead])
    names = [name for name, _ in model.named_parameters()]
    for phase, prefixes, terms in (
        ("all", (), ("classes",)),
        ("head", ("trunks.",), ("classes",)),
        ("second", ("trunks.0.",), ("guess",)),
        ("trunks", ("locator.", "names.0.classifier.", "names.1.classifier."), ("classes",)),
        ("calm", ("locator.", "trunks.0."), ("calm",)),
    ):
        model.enter(phase)
        assert still(model) == {name for name in names if name.startswith(prefixes)}
        assert model.plan.terms == terms
    with pytest.raises(UsageError, match=r"Tabled knows \['all', 'head', 'second', 'trunks', 'calm'\]"):
        model.enter("third")


@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_mean_probability_is_the_mean_of_softmaxes_in_double_precision(number):
    rng = np.random.default_rng(0)
    logits = {level: rng.normal(scale=30, size=(number, 6, size)) for level, size in (("genus", 3), ("species", 5))}
    logits["species"][:, 0] += 1e4  # softmax itself would overflow
    answers = [
        Prediction(
            {level: torch.tensor(rows[i], dtype=torch.float32) for level, rows in logits.items()}, torch.zeros(6, 1)
        )
        for i in range(number)
    ]
    found = mean_probability(answers)
    assert list(found) == ["genus", "species"]
    for level, rows in logits.items():
        wide = np.float32(rows).astype(np.float64)
        powers = np.exp(wide - wide.max(axis=2, keepdims=True))
        mean = (powers / powers.sum(axis=2, keepdims=True)).mean(axis=0)
        assert found[level].dtype == torch.float32
        np.testing.assert_allclose(found[level].numpy(), np.log(mean), rtol=1e-5, atol=1e-5)


def test_the_mean_probability_of_half_precision_is_computed_in_full():
    logits = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    found = mean_probability([Prediction({"species": one}, one) for one in logits])["species"]
    mean = logits.double().softmax(dim=2).mean(dim=0)
    torch.testing.assert_close(found.double().exp(), mean, atol=1e-6, rtol=0)
