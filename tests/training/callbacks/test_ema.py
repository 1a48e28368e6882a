import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EMAWeightAveraging
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from fgvc.errors import UsageError
from fgvc.training.callbacks.ema import EMA, AveragedWeights, ema_decay

# What Lightning prints for its own sake; what it says about averages would still fail a test.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{words}")
    for words in (".*does not have many workers", ".*treespec", ".*LeafSpec", ".*The number of training batches")
]
BATCHES = 6


class Tiny(pl.LightningModule):
    """A net with everything that a net of ours has: weights, batch-norm statistics, an integer table, a mask."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
        self.register_buffer("table", torch.arange(-1, 399).view(100, 4))
        self.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
        self.register_buffer("constant", torch.tensor([0.1, 1e30]))

    def training_step(self, batch, batch_idx):
        return self.net(batch).square().mean()

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.3, momentum=0.9)

    def train_dataloader(self):
        generator = torch.Generator().manual_seed(1)
        return torch.utils.data.DataLoader(torch.randn(BATCHES * 5, 3, generator=generator), batch_size=5)

    val_dataloader = train_dataloader


class Recorder(Callback):
    """Keeps the state after each optimizer step and at each validation. It must stand before the average."""

    def __init__(self):
        self.steps, self.validated = [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.steps.append(state_of(pl_module))

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        if batch_idx == 0 and not trainer.sanity_checking:
            self.validated.append(state_of(pl_module))


def state_of(module):
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def fit(callbacks, epochs, folder, ckpt_path=None):
    module = Tiny()
    trainer = pl.Trainer(
        max_epochs=epochs, accelerator="cpu", callbacks=callbacks, logger=False, default_root_dir=folder,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, num_sanity_val_steps=1,
    )  # fmt: skip
    trainer.fit(module, ckpt_path=ckpt_path)
    return module, trainer


def slow_average(values, decay_max):
    """The recurrence in float64: the first value is taken, each later one after n updates with its own decay."""
    average = values[0].double()
    for n, value in enumerate(values[1:], start=1):
        decay = min(decay_max, (1 + n) / (10 + n))
        average = decay * average + (1 - decay) * value.double()
    return average


AVERAGED = ["net.0.weight", "net.1.bias", "net.1.running_mean", "net.1.running_var", "net.2.weight"]


def test_decay_rises_from_little_memory_to_its_limit():
    assert [ema_decay(n, 0.9) for n in (0, 8, 71, 10_000)] == [0.1, 0.5, 72 / 81, 0.9]


@pytest.mark.parametrize("start", [0, 2])
@pytest.mark.parametrize("decay", [0.999, 0.4])
def test_weights_and_statistics_follow_the_recurrence_from_the_start_epoch_on(tmp_path, start, decay):
    recorder = Recorder()
    module, _ = fit([recorder, EMA(decay, start_epoch=start)], 3, tmp_path)
    final = module.state_dict()
    for name in AVERAGED:
        expected = slow_average([state[name] for state in recorder.steps[start * BATCHES :]], decay)
        torch.testing.assert_close(final[name].double(), expected, rtol=1e-5, atol=1e-6)
        assert not torch.allclose(final[name], recorder.steps[-1][name], rtol=1e-3)  # it is not the last value
    assert final["net.1.num_batches_tracked"] == 3 * BATCHES


def test_tables_masks_and_constants_come_back_whole_where_lightning_breaks_them(tmp_path):
    module, _ = fit([EMA(0.9)], 2, tmp_path)
    original = Tiny()
    for name in ("table", "mask", "constant"):
        assert torch.equal(getattr(module, name), getattr(original, name)), name
    # Which numbers break depends on how the decay rounds: 0.9 takes 3 to 2, 0.999 happens to spare small ones.
    naive, _ = fit([EMAWeightAveraging(decay=0.9)], 2, tmp_path)
    assert not torch.equal(naive.table, original.table)


def test_a_mask_survives_where_averaging_every_buffer_gives_nan():
    model = Tiny()
    ours = AveragedWeights(model, 0.999, torch.device("cpu"))
    naive = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.999), use_buffers=True)
    for average in (ours, naive):
        average.update_parameters(model)
        average.update_parameters(model)
    assert torch.equal(ours.module.mask, model.mask)
    assert naive.module.mask.isnan().any()


def test_before_the_start_the_model_itself_is_validated_where_lightning_validates_the_untrained_one(tmp_path):
    recorder = Recorder()
    fit([recorder, EMA(start_epoch=1)], 2, tmp_path)
    after_first_epoch = recorder.steps[BATCHES - 1]
    assert torch.equal(recorder.validated[0]["net.0.weight"], after_first_epoch["net.0.weight"])
    assert not torch.equal(recorder.validated[1]["net.0.weight"], recorder.steps[-1]["net.0.weight"])

    naive = Recorder()
    fit([naive, EMAWeightAveraging(use_buffers=False, update_starting_at_step=BATCHES)], 2, tmp_path)
    assert torch.equal(naive.validated[0]["net.0.weight"], Tiny().net[0].weight)


def test_training_itself_is_not_touched_by_the_average(tmp_path):
    with_average, without = Recorder(), Recorder()
    fit([with_average, EMA(start_epoch=1)], 3, tmp_path)
    fit([without], 3, tmp_path)
    for one, other in zip(with_average.steps, without.steps, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(("stop", "start"), [(2, 0), (2, 1), (1, 2)])
def test_a_resumed_run_ends_where_the_unbroken_one_does(tmp_path, stop, start):
    unbroken, _ = fit([EMA(start_epoch=start)], 4, tmp_path)
    _, trainer = fit([Stop(stop, tmp_path / "stop.ckpt"), EMA(start_epoch=start)], 4, tmp_path)
    assert trainer.current_epoch == stop
    resumed, _ = fit([EMA(start_epoch=start)], 4, tmp_path, ckpt_path=tmp_path / "stop.ckpt")
    for name, value in unbroken.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


class Stop(Callback):
    """Saves a checkpoint at the end of an epoch and ends the run there."""

    def __init__(self, epochs, path):
        self.epochs, self.path = epochs, path

    def on_train_epoch_end(self, trainer, pl_module):
        if trainer.current_epoch + 1 == self.epochs:
            trainer.save_checkpoint(self.path)
            trainer.should_stop = True


def test_a_checkpoint_holds_the_average_and_the_model_and_loads_as_plain_data(tmp_path):
    recorder = Recorder()
    module, _ = fit([recorder, Stop(2, tmp_path / "a.ckpt"), EMA()], 2, tmp_path)
    stored = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert torch.equal(stored["state_dict"]["net.0.weight"], module.net[0].weight)
    assert torch.equal(stored["current_model_state"]["net.0.weight"], recorder.steps[-1]["net.0.weight"])


def test_a_trained_checkpoint_is_tested_without_a_word_about_averages(tmp_path):
    _, _ = fit([Stop(1, tmp_path / "a.ckpt"), EMA()], 1, tmp_path)
    trainer = pl.Trainer(
        accelerator="cpu", callbacks=[EMA()], logger=False, enable_progress_bar=False, default_root_dir=tmp_path
    )
    module = Tiny()
    trainer.validate(module, ckpt_path=tmp_path / "a.ckpt", verbose=False)  # Lightning's callback warns here
    stored = torch.load(tmp_path / "a.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(module.net[0].weight, stored["net.0.weight"])


def test_averaged_statistics_fit_the_averaged_weights_better_than_copied_ones():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8))
    average = AveragedWeights(model, 0.99, torch.device("cpu"))
    for _ in range(400):
        model(torch.randn(32, 4))
        average.update_parameters(model)
        with torch.no_grad():  # weights that wander without end, as they do at a high learning rate
            model[0].weight += 0.05 * torch.randn(8, 4)
            model[0].bias += 0.1 * torch.randn(8)
    true_mean = average.module[0].bias  # the inputs have mean 0
    copied = (model[1].running_mean - true_mean).abs().mean()
    averaged = (average.module[1].running_mean - true_mean).abs().mean()
    assert averaged < copied / 3


def test_frozen_weights_stay_exactly_as_they_are():
    model = nn.Linear(3, 3).requires_grad_(False)
    average = AveragedWeights(model, 0.999, torch.device("cpu"))
    for _ in range(30):
        average.update_parameters(model)
    assert torch.equal(average.module.weight, model.weight)


@pytest.mark.parametrize(("arguments", "words"), [((1.0,), "below 1"), ((-0.1,), "ema.decay"), ((0.9, -1), "from 0")])
def test_settings_outside_their_range_are_refused(arguments, words):
    with pytest.raises(UsageError, match=words):
        EMA(*arguments)
