from types import SimpleNamespace

import pytest
import torch
from fakes.tiny_run import CPU, NET, data_flags, make_photos

from fgvc.config import quiet
from fgvc.config.run_cli import RunCLI
from fgvc.errors import UsageError
from fgvc.training import batch_finder
from fgvc.training.module import FineGrainedModule


@pytest.fixture
def built(tmp_path):
    quiet.libraries()
    photos = make_photos(tmp_path / "photos", train=7, val=2, test=0)
    cli = RunCLI("fit", [*NET, *CPU, *data_flags(photos), "--name", "birds"])
    cli.build()
    return cli


@pytest.fixture
def accelerator(monkeypatch):
    """An accelerator, as far as the search asks for one: its steps run on the CPU."""
    original = batch_finder.trial_trainer

    def made(settings, steps):
        trainer = original(settings, steps)
        fake = SimpleNamespace(root_device=torch.device("cuda"))
        return SimpleNamespace(strategy=fake, fit=trainer.fit)

    monkeypatch.setattr(batch_finder, "trial_trainer", made)


def small_memory(monkeypatch, images):
    """Let a step fail as torch does where more images than these are given, and return the sizes that were tried."""
    original, tried = FineGrainedModule.training_step, []

    def step(self, sample, batch_idx):
        tried.append(len(sample.label))
        if len(sample.label) > images:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return original(self, sample, batch_idx)

    monkeypatch.setattr(FineGrainedModule, "training_step", step)
    return tried


def test_the_largest_size_that_fits_is_taken_and_the_model_stays_as_it_was(built, accelerator, monkeypatch):
    before = {name: value.clone() for name, value in built.model.state_dict().items()}
    tried = small_memory(monkeypatch, 9)
    assert batch_finder.find_size(built.model, built.datamodule, built.config_init["trainer"]) == 8
    assert built.datamodule.batch_size == 8
    assert sorted(set(tried)) == [2, 4, 8, 16] and tried.count(8) >= 2  # 21 images are 2 batches of 8 an epoch
    assert all(torch.equal(before[name], value) for name, value in built.model.state_dict().items())


def test_no_size_goes_beyond_the_training_images(built, accelerator, monkeypatch):
    small_memory(monkeypatch, 1000)
    assert batch_finder.find_size(built.model, built.datamodule, built.config_init["trainer"]) == 16  # of 21


def test_a_memory_that_holds_nothing_is_told(built, accelerator, monkeypatch):
    small_memory(monkeypatch, 1)
    with pytest.raises(UsageError, match="not even 2 images fit"):
        batch_finder.find_size(built.model, built.datamodule, built.config_init["trainer"])


def test_another_error_is_not_taken_for_a_full_memory(built, accelerator, monkeypatch):
    def step(self, sample, batch_idx):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(FineGrainedModule, "training_step", step)
    with pytest.raises(RuntimeError, match="shapes differ"):
        batch_finder.find_size(built.model, built.datamodule, built.config_init["trainer"])


def test_the_processor_has_no_such_memory(built):
    with pytest.raises(UsageError, match="and there is none; give"):
        batch_finder.find_size(built.model, built.datamodule, built.config_init["trainer"])
