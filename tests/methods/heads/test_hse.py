import math

import pytest
import torch
from fakes.tiny_run import CPU, read_csv
from torch import nn
from torch.nn.functional import cross_entropy

import fgvc.methods.slots  # noqa: F401 - imports every pooling
from fgvc.__main__ import main
from fgvc.errors import UsageError
from fgvc.methods.backbone import Backbone
from fgvc.methods.heads.hse import Guide, HSEHead, HSEPrediction, regularisation_loss
from fgvc.methods.pooling.base import Pooling
from fgvc.methods.pooling.class_mean import ClassMeanPooling
from fgvc.methods.pooling.gem import GeMPooling
from fgvc.methods.recognizers.ra_cnn import RACNN
from fgvc.methods.recognizers.whole_image import WholeImage
from fgvc.taxonomy.tree import Taxonomy

TREE = Taxonomy(
    ("family", "genus", "species"),
    [("A", "a", "a1"), ("A", "a", "a2"), ("A", "b", "b1"), ("B", "c", "c1"), ("B", "c", "c2")],
)


def backbone_of(size):
    return Backbone(size, "test_resnet", "none")


def whole(taxonomy=TREE, name="test_resnet", **arguments):
    arguments = {"embedding_width": 8, "guide_width": 8, **arguments}
    return WholeImage(taxonomy, 64, lambda size: Backbone(size, name, "none"), lambda t, b: HSEHead(t, b, **arguments))


def images(number=3):
    return torch.randint(0, 256, (number, 3, 64, 64), generator=torch.Generator().manual_seed(0)).float()


def test_the_guided_vector_is_the_papers_sum_over_positions():
    torch.manual_seed(0)
    guide = Guide(parents=4, channels=6, embedding_width=5, width=7).double()
    seen, above = torch.randn(2, 6, 3, 2, dtype=torch.float64), torch.rand(2, 4, dtype=torch.float64)
    found = guide(seen, above).mean(dim=(2, 3))
    joined = torch.cat([guide.of_map.weight.flatten(1), guide.of_embedding.weight], dim=1)  # over [map; embedding]
    for n in range(2):
        e = guide.embed.weight @ above[n] + guide.embed.bias
        columns = [torch.cat([seen[n, :, y, x], e]) for y in range(3) for x in range(2)]
        hidden = [torch.tanh(joined @ u + guide.of_map.bias) for u in columns]
        scores = torch.stack([guide.out.weight.flatten(1) @ u + guide.out.bias for u in hidden])  # (positions, C)
        for c in range(6):
            weights = [math.exp(s) for s in scores[:, c].tolist()]
            alpha = [w / sum(weights) for w in weights]
            wanted = sum(max(0.0, a * f) for a, f in zip(alpha, seen[n, c].flatten().tolist(), strict=True))
            # the softmax is computed in single precision
            assert found[n, c].item() == pytest.approx(wanted, abs=1e-5)


def test_every_level_is_the_mean_of_its_classifiers():
    prediction = whole().eval()(images())
    assert list(prediction.logits) == ["family", "genus", "species"]
    assert [len(c) for c in prediction.classifiers.values()] == [1, 3, 3]
    for level, logits in prediction.logits.items():
        assert logits.shape == (3, TREE.size(level))
        assert torch.allclose(logits, sum(prediction.classifiers[level]) / len(prediction.classifiers[level]))
    assert prediction.embedding.shape == (3, 2 * 96)


def test_a_branch_owns_a_copy_and_the_finest_raw_branch_the_last_stage_itself():
    model = whole()
    names = [name for name, module in model.head.named_modules() if type(module).__name__ == "LastStage"]
    assert sorted(names) == ["levels.0.raw", "levels.1.guided", "levels.1.raw", "levels.2.guided"]
    shared = whole(share_last_stage=True)
    assert not [m for m in shared.head.modules() if type(m).__name__ == "LastStage"]
    assert sum(p.numel() for p in shared.head.parameters()) < sum(p.numel() for p in model.head.parameters()) / 10


def test_the_loss_is_the_papers_sum():
    model = whole(regularisation=0.5, temperature=2.0).train()
    prediction = model(images())
    labels = torch.tensor([0, TREE.find("c", "genus"), 2])
    terms = model.loss(prediction, labels)
    paths = [("A", "a", "a1"), ("B", "c"), ("A", "b", "b1")]
    for depth, level in enumerate(TREE.levels):
        known = [n for n, path in enumerate(paths) if len(path) > depth]
        index = torch.tensor([TREE.names(level).index(paths[n][depth]) for n in known])
        answers = prediction.classifiers[level]
        answers = [*answers, sum(answers) / len(answers)] if depth else answers
        wanted = sum(cross_entropy(answer[known], index) for answer in answers)
        assert terms[level].item() == pytest.approx(wanted.item(), rel=1e-5)
        if depth:
            above = prediction.logits[TREE.levels[depth - 1]]
            total = 0.0
            for n in range(3):
                handed = [
                    above[n, TREE.names(TREE.levels[depth - 1]).index(TREE.path(TREE.node(level, c))[depth - 1])].item()
                    for c in range(TREE.size(level))
                ]
                q = [math.exp(h / 2) for h in handed]
                p = [math.exp(s / 2) for s in prediction.logits[level][n].tolist()]
                total += sum(a / sum(q) * math.log(a / sum(q) / (b / sum(p))) for a, b in zip(q, p, strict=True))
            assert terms[f"{level}_divergence"].item() == pytest.approx(0.5 * total / 3, rel=1e-4, abs=1e-6)
        else:
            assert f"{level}_divergence" not in terms


def test_no_gradient_flows_to_the_level_above():
    model = whole()
    model.train()
    labels = torch.tensor([0, 1, 4])
    terms = model.loss(model(images()), labels)
    (terms["species"] + terms["species_divergence"]).backward()
    assert all(p.grad is None for p in model.head.levels[0].parameters())
    assert all(p.grad is None for p in model.head.levels[1].parameters())
    assert all(p.grad is not None for p in model.head.levels[2].parameters())
    assert all(p.grad is not None for p in model.backbone.net.parameters())


def test_the_divergence_has_no_gradient_to_what_is_handed_down():
    logits, handed = torch.randn(3, 4, requires_grad=True), torch.randn(3, 4, requires_grad=True)
    regularisation_loss(logits, handed, 4.0).backward()
    assert handed.grad is None and logits.grad.abs().sum() > 0
    assert regularisation_loss(logits, logits + 5, 4.0).item() == pytest.approx(0.0, abs=1e-6)


def test_without_parents_the_level_above_changes_nothing():
    for use, same in ((True, False), (False, True)):
        torch.manual_seed(0)
        model = whole(use_parents=use).eval()
        before = model(images()).logits["species"]
        nn.init.normal_(model.head.levels[1].name_raw.weight, std=5.0)
        assert torch.equal(model(images()).logits["species"], before) == same


@pytest.mark.parametrize("phase, still", [("level1", [1, 2]), ("level2", [0, 2]), ("level3", [0, 1]), ("all", [])])
def test_a_phase_teaches_one_level(phase, still):
    model = whole()
    model.enter(phase)
    for number, level in enumerate(model.head.levels):
        assert all(p.requires_grad == (number not in still) for p in level.parameters())
    trunk, last = model.backbone.net.layer3, model.backbone.net.layer4
    assert all(p.requires_grad == (phase in ("level1", "all")) for p in trunk.parameters())
    assert all(p.requires_grad == (phase != "level2") for p in last.parameters())
    terms = model.loss(model(images()), torch.tensor([0, 1, 2]))
    own = {"level1": {"family"}, "level2": {"genus", "genus_divergence"}, "level3": {"species", "species_divergence"}}
    assert set(terms) == own.get(phase, set().union(*own.values()))
    sum(terms.values()).backward()
    moved = [p for p in model.parameters() if p.grad is not None]
    assert moved and all(p.requires_grad for p in moved)


def test_leaving_a_phase_gives_everything_back():
    model = whole()
    model.enter("level2")
    model.enter("all")
    assert all(p.requires_grad for p in model.parameters())


def test_the_last_stages_stand_still_with_the_backbone():
    model = whole()
    model.enter("head")
    learns = {name for name, p in model.named_parameters() if p.requires_grad}
    assert learns and not [name for name in learns if ".steps." in name or name.startswith("backbone")]


def test_an_unknown_level_is_refused_with_the_known_ones():
    with pytest.raises(UsageError, match=r"phase 'level4': WholeImage knows \['all', 'head', 'level1', .*level3'"):
        whole().check_phase("level4")


@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
def test_it_works_on_flat_data_and_on_transformers(name):
    flat = whole(Taxonomy.flat(["x", "y"]), name)
    assert flat(images()).logits["class"].shape == (3, 2)
    deep = whole(name=name).train()
    terms = deep.loss(deep(images()), torch.tensor([0, 1, -1]))
    assert all(value.isfinite() for value in terms.values())


def test_it_combines_with_look_closer_and_other_poolings():
    model = RACNN(TREE, 64, backbone_of, lambda t, b: HSEHead(t, b, GeMPooling, embedding_width=8, guide_width=8))
    prediction = model.train()(images())
    assert isinstance(prediction.views["scale2"], HSEPrediction)
    assert list(prediction.logits) == list(TREE.levels)
    terms = model.loss(prediction, torch.tensor([0, 1, 4]))
    assert {"scale1_family", "scale2_genus", "scale2_species_divergence"} <= set(terms)
    model.enter("level2")
    assert not any(p.requires_grad for p in model.attentions.parameters())
    learning = {name.split(".levels.")[1][0] for name, p in model.named_parameters() if p.requires_grad}
    assert learning == {"1"}


@pytest.mark.parametrize("wrong", [{"guide_width": 0}, {"regularisation": -1}, {"temperature": 0}])
def test_numbers_that_mean_nothing_are_refused(wrong):
    with pytest.raises(UsageError, match=f"{next(iter(wrong))} {next(iter(wrong.values()))}"):
        whole(**wrong)


@pytest.mark.parametrize("pooling", sorted(Pooling.__subclasses__(), key=lambda cls: cls.__name__))
def test_it_reads_every_pooling(pooling):
    model = whole(name="test_vit" if pooling is ClassMeanPooling else "test_resnet", pooling=pooling).train()
    terms = model.loss(model(images()), torch.tensor([0, 1, 4]))
    sum(terms.values()).backward()
    assert all(p.grad is not None for p in model.head.levels.parameters())


def test_one_yaml_looks_closer_and_names_every_level_of_generated_birds(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    birds = {"num_orders": 2, "families_per_order": 1, "genera_per_family": 1, "species_per_genus": 2}
    birds |= {"train_per_class": 24, "val_per_class": 8, "test_per_class": 0, "image_size": 96, "root": "birds"}
    words = ["fit", "--config", "generated_birds", "--config", "ra_cnn_hse", "--name", "run", *CPU]
    words += ["--data.source_size", "96", "--model.image_size", "64", "--data.batch_size", "8"]
    words += ["--data.num_workers", "0", "--trainer.max_epochs", "6", "--model.lr", "0.002"]
    words += [word for key, x in birds.items() for word in (f"--data.source.init_args.{key}", str(x))]
    backbone = "--model.recognizer.init_args.backbone.init_args"
    assert main([*words, f"{backbone}.name", "test_resnet", f"{backbone}.weights", "none"]) == 0
    rows = [row for row in read_csv(tmp_path / "runs/run/metrics.csv") if row["val/order/top1"]]
    assert {f"val/{view}/{level}/top1" for view in ("scale1", "scale2") for level in ("order", "species")} <= set(
        rows[0]
    )
    assert float(rows[-1]["val/order/top1"]) >= 0.8  # silhouettes: half of them by chance
    assert float(rows[-1]["val/loss"]) < float(rows[0]["val/loss"])


@pytest.mark.parametrize("name", ["convnext_atto", "test_vit"])
@pytest.mark.parametrize("shared", [False, True])
def test_the_last_level_leaves_the_whole_trunk_alone(name, shared):
    model = whole(name=name, share_last_stage=shared)
    model.enter("level3")
    still = {id(p) for p in model.parameters() if not p.requires_grad}
    last = {"convnext_atto": ("stages.3.", "norm_pre."), "test_vit": ("blocks.3.", "blocks.4.", "blocks.5.", "norm.")}
    for path, parameter in model.backbone.net.named_parameters():
        assert (id(parameter) in still) == (shared or not path.startswith(last[name])), path


def test_it_computes_in_half_precision():
    model = whole().to(torch.bfloat16).eval()
    assert model(images()).logits["species"].dtype == torch.bfloat16
