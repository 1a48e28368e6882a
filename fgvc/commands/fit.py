"""`fgvc fit`: train a run from its beginning, or go on with one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fgvc.config.own_data import ON_CPU, Start, from_data
from fgvc.config.run_cli import RunCLI
from fgvc.config.words import fit_words
from fgvc.data.datamodule import FineGrainedData
from fgvc.data.long_tail import write_kept
from fgvc.errors import FgvcError, UsageError
from fgvc.files import run_folder
from fgvc.files.lines import counted, quoted, tell
from fgvc.files.origin import environment
from fgvc.files.whole_files import write_rows
from fgvc.model_file.architecture import to_plain
from fgvc.model_file.model import Model, save
from fgvc.training import callback_list, checkpoints, frozen, metrics_file, processes, resuming
from fgvc.training.batch_finder import find_size
from fgvc.training.calibration import calibrate_model
from fgvc.training.callbacks.notes import Notes, Outline
from fgvc.training.callbacks.phases import tell_data
from fgvc.training.callbacks.progress import print_summary
from fgvc.training.pace import batch_for, epochs_for, seconds_per_epoch, seconds_per_step
from fgvc.training.plain_time import in_words
from fgvc.training.rate_finder import find_rate
from fgvc.training.warm_start import find, init_from


@dataclass
class Run:
    """A run that is trained.

    folder: where it is written.
    resumes: whether it goes on from its last checkpoint.
    weights_from: the model that it starts from, or None.
    bare: whether that model stands in for pretrained weights.
    start: what is left to the machine to choose.
    """

    folder: Path
    resumes: bool
    weights_from: str | None = None
    bare: bool = False
    start: Start = Start([])  # noqa: RUF009 - a tuple


def main(words: list[str]) -> int:
    """Run the command and return its exit code."""
    fit(words)
    return 0


def fit(words: list[str]) -> Path:
    """Train, and return the run folder; raises FgvcError with one line where a person has to act."""
    start = from_data(words)
    typed, resumed = fit_words(start.words)
    cli = RunCLI("fit", typed, resumes=resumed is not None)
    run = claim(cli, resumed)
    run.start = start
    build(cli, run)
    train(cli, run)
    if cli.trainer.is_global_zero:
        finish(cli, run)
    return run.folder


def claim(cli: RunCLI, resumed: Path | None = None) -> Run:
    """Refuse a taken name before any work; a model that is read from a file asks for no pretrained weights.

    Raises:
        UsageError: the run exists already, or there is no model to start from.
    """
    if resumed:
        cli.without_weights()
        return Run(resumed, resumes=True)
    run = Run(Path(cli.config["runs"], cli.config["name"]), resumes=False, weights_from=cli.config["init_from"])
    if processes.is_first():
        run_folder.check(run.folder, cli.config["overwrite"])
        if run.weights_from:
            run.weights_from = cli.typed["init_from"] = str(find(run.weights_from))  # `latest` will soon be this run
    run.bare = run.weights_from is not None and cli.without_weights("pretrained")
    return run


def build(cli: RunCLI, run: Run) -> None:
    """Build data, model and trainer, then make the folder of a new run.

    Raises:
        FgvcError: data, model or trainer cannot be built, or the folder cannot be written.
    """
    if run.start.recipe and processes.is_first():
        machine = "the CPU" if run.start.recipe == ON_CPU else "this machine"
        tell(f"recipe: {run.start.recipe}, for {machine}; --config METHOD takes another (fgvc configs lists them)")
    cli.build()
    data = cli.datamodule
    if data.stages and processes.is_first():  # a table that does not fit: say so before anything is written
        tell(data.stages.line())
    tell_data(data, cli.config_init["phases"] or [], cli.config_init["cycle_phases"])
    if run.start.chooses_batch and not processes.are_several(cli.config_init["trainer"]):
        _choose_batch(cli)
    steps = len(data.train_dataloader())  # too few images for a batch: say so before anything is written
    if processes.is_first():
        if cli.evaluation and not run.resumes:
            tell(cli.evaluation)
        for report in dict.fromkeys(str(one.report) for one in cli.model.recognizer.backbones() if one.report):
            tell(report)
        if data.source.passed_over is not None and data.source.passed_over.counts:
            tell(data.source.passed_over.line())
    if run.weights_from and processes.is_first():  # DDP tells the others
        told = init_from(cli.model.recognizer, run.weights_from, run.bare)
        tell(f"start from {run.weights_from}: {told}")
    if cli.config["find_batch_size"] and not run.resumes:
        _find_batch_size(cli)
    if cli.config["find_lr"] and not run.resumes:
        _find_rate(cli)
    if run.start.recipe and not processes.are_several(cli.config_init["trainer"]):
        _choose_epochs(cli, run.start)
    cli.build_trainer(
        logger=callback_list.loggers(run.folder),
        callbacks=[
            Outline(data),
            Notes(_doubts(data, steps)),
            *callback_list.training(
                run.folder,
                cli.config_init["phases"],
                cli.config_init["cycle_phases"],
                cli.config["ema"],
                monitor=cli.model.monitor if _validates(cli) and not _of_new_classes(data) else None,
                minutes=cli.config["save_every_minutes"],
                patience=cli.config["early_stopping"],
            ),
        ],
        plugins=[checkpoints.WholeCheckpointIO()],
    )
    if processes.is_first() and not run.resumes:
        run_folder.create(run.folder, cli.plain_config())
        if data.long_tail:
            write_kept(run.folder / run_folder.LONG_TAIL, data.records("train"), data.taxonomy)
    if processes.is_first() and data.amended:
        for name, rows in data.amended.tables.items():
            write_rows(run.folder / name, rows)


def _validates(cli: RunCLI) -> bool:
    return "val" in cli.datamodule.splits and cli.config_init["trainer"]["limit_val_batches"] != 0


def _choose_batch(cli: RunCLI) -> None:
    """Make smaller batches of few images, so that an epoch has a few steps; the config of the run holds the number."""
    size = batch_for(len(cli.datamodule.records("train")))
    if size < cli.datamodule.batch_size:
        cli.typed["data"]["batch_size"] = cli.datamodule.batch_size = size


def _choose_epochs(cli: RunCLI, start: Start) -> None:
    """Measure a step, tell how long the training takes, and choose the epochs where nobody did.

    The config of the run holds the number, so that it repeats.
    """
    settings = cli.config_init["trainer"]
    if settings["fast_dev_run"] or settings["max_time"] or settings["max_steps"] not in (None, -1):
        return  # its length is known otherwise
    step = seconds_per_step(cli.model, cli.datamodule, settings)
    epoch = seconds_per_epoch(step, cli.datamodule, settings)
    if start.chooses_epochs:
        settings["max_epochs"] = cli.typed["trainer"]["max_epochs"] = epochs_for(epoch)
    epochs = settings["max_epochs"]
    if epochs and epochs > 0:
        length = f"{counted(epochs, 'epoch')}, about {in_words(epochs * epoch)}"
        tell(f"{length}; --trainer.max_epochs N trains longer or shorter")


def _find_batch_size(cli: RunCLI) -> None:
    """Set the batch size to what a search finds; the config of the run holds the number, not the wish."""
    settings = cli.config_init["trainer"]
    if processes.are_several(settings):
        raise UsageError("--find_batch_size: one process searches; find it with --trainer.devices 1")
    if cli.datamodule.episodes:
        raise UsageError("--find_batch_size: a batch is an episode here; data.episodes says how large it is")
    size = find_size(cli.model, cli.datamodule, settings)
    cli.typed["data"]["batch_size"], cli.typed["find_batch_size"] = size, False
    tell(f"batch size: {size}; model.lr {cli.model.hparams['lr']:g} is for the whole batch")


def _of_new_classes(data: FineGrainedData) -> bool:
    return "val" in data.splits and not data.episodes and data.has_new_classes("val")


def _doubts(data: FineGrainedData, steps: int) -> list[str]:
    """Return what of the data is probably not meant so: how the source read them, and an epoch of a single step."""
    told = list(data.source.doubts.values())
    if _of_new_classes(data):
        told.append(
            "none of the classes of val is trained on: its scores choose no epoch and calibrate nothing; for few-shot "
            "learning see --config meta_prototypes, or embed the photographs with this run"
        )
    if steps == 1 and not data.episodes:
        images = len(data.records("train"))
        more = f"--data.batch_size {max(1, images // 8)} learns more often"
        told.append(f"an epoch is one step of {data.batch_size} of {images} training images: {more}")
    return told


def _find_rate(cli: RunCLI) -> None:
    """Set the learning rate of the run to what a sweep suggests; its config holds the number, not the wish."""
    settings = cli.config_init["trainer"]
    if processes.are_several(settings):
        raise UsageError("--find_lr: one process sweeps; give --model.lr, or find it with --trainer.devices 1")
    rate = find_rate(cli.model, cli.datamodule, settings)
    cli.model.set_rate(rate)
    cli.typed["model"]["lr"], cli.typed["find_lr"] = rate, False
    tell(f"learning rate: {rate:g}")


def train(cli: RunCLI, run: Run) -> None:
    """Train from the beginning or from the last checkpoint; a new run that fails before its first step is removed.

    Raises:
        FgvcError: the checkpoint does not fit, a signal stopped the run, or the training failed.
    """
    try:
        start = _last_checkpoint(cli, run.folder) if run.resumes else None
        cli.check_batches("train", *(["val"] if "val" in cli.datamodule.splits else []))
        phases, settings = cli.config_init["phases"], cli.config_init["trainer"]
        if told := frozen.remember(cli.model, cli.datamodule, phases, settings, start):
            tell(told)
        with cli.in_our_words():
            cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=start, weights_only=True)
    except FgvcError:
        if cli.trainer.is_global_zero and cli.trainer.global_step == 0 and not run.resumes:
            run_folder.discard(run.folder)
        raise


def _last_checkpoint(cli: RunCLI, folder: Path) -> Path:
    """Return the checkpoint to go on from, if it fits; the run folder notes that the run is resumed."""
    path = run_folder.last(folder)
    state = checkpoints.read(path)
    done, step, epochs = resuming.epochs_trained(state), int(state["global_step"]), cli.trainer.max_epochs
    if epochs is not None and 0 <= epochs < done:
        raise UsageError(f"--trainer.max_epochs: {epochs}, but {folder} has trained {done} already; give more")
    _check_same_training(cli, path, state)
    if done == epochs and (folder / run_folder.MODEL).is_dir():  # one without a model was killed while it finished
        raise UsageError(
            f"{folder}: nothing left to train after {counted(done, 'epoch')}; "
            f"give --trainer.max_epochs {done + 1} or more"
        )
    cli.datamodule.trainer = cli.trainer  # the order of the images depends on how many processes share them
    loader, anew = cli.datamodule.train_dataloader(), ""
    trainer: Any = cli.trainer
    for before in resuming.loader_states(state) if resuming.is_inside_epoch(state) else []:
        if changed := loader.changed(before):
            told = ", ".join(f"{name} was {old} and is {now}" for name, (old, now) in changed.items())
            anew = f"; {told}: epoch {done + 1} begins anew"
            trainer.callbacks.append(resuming.EpochAnew())
    if cli.trainer.is_global_zero:
        metrics_file.keep_until(folder / "metrics.csv", step)
        run_folder.go_on(folder, cli.plain_config())
        tell(f"resume {folder}: {done} of {epochs} epochs trained, after step {step}{anew}")
    return path


def _check_same_training(cli: RunCLI, path: Path, state: dict[str, Any]) -> None:
    """Refuse a checkpoint of another optimizer, of other classes or of another model."""
    stored, wanted = state.get("hyper_parameters", {}).get("optimizer"), cli.model.hparams["optimizer"]
    if stored != wanted:
        raise UsageError(
            f"--model.optimizer: {wanted}, but {path} holds the state of {stored}; "
            "resume with it, or start a new run with --init_from"
        )
    if difference := resuming.other_classes(state, cli.datamodule.taxonomy):
        raise UsageError(
            f"{path}: made for other classes ({difference}); give the data it was trained on, or start a new run with "
            "--init_from"
        )
    shapes = {name: tensor.shape for name, tensor in state["state_dict"].items()}
    own = {name: tensor.shape for name, tensor in cli.model.state_dict().items()}
    if odd := sorted(name for name in shapes.keys() | own.keys() if shapes.get(name) != own.get(name)):
        raise UsageError(
            f"{path}: made by another model or for other classes ({len(odd)} tensors differ, {odd[0]} first); "
            "--resume goes on with the same one, --init_from starts a new run from its weights"
        )


def finish(cli: RunCLI, run: Run) -> None:
    """Write the model of a run that is trained, calibrate it, and tell.

    Raises:
        FgvcError: the model cannot be written.
    """
    chosen = run_folder.checkpoint(run.folder) if cli.trainer.checkpoint_callbacks else None
    values = {name: round(float(value), 6) for name, value in cli.trainer.callback_metrics.items()}
    try:
        architecture = to_plain(cli.typed["model"]["recognizer"].as_dict())
    except UsageError as error:
        kept = f"{chosen} holds the whole training state" if chosen else "and there is no checkpoint"
        tell(f"no model file: {error}; {kept}")
        return
    if chosen:
        checkpoints.load_weights(cli.model.recognizer, chosen)
    else:
        tell("no checkpoints were written: the model is that of the last step")
    provenance: dict[str, Any] = {
        "run": cli.config["name"],
        "checkpoint": chosen.name if chosen else "none: the weights of the last step",
        "metrics": callback_list.best_of(cli.trainer) or values,
        **environment(),
    }
    model = Model(cli.model.recognizer.eval(), architecture, cli.datamodule.resize, {}, provenance)
    path = save(model, run.folder / run_folder.MODEL)  # at once: the calibration reads images, which may fail
    told = ""
    if not cli.model.scores_classes:
        told = "not calibrated: the model knows no classes yet\n"
    elif _of_new_classes(cli.datamodule):
        told = "not calibrated: none of the classes of val is trained on\n"
    elif "val" in cli.datamodule.splits:
        try:
            told = calibrate_model(model, cli.datamodule, "val", cli.trainer.strategy.root_device)
            save(model, path)
        except FgvcError as error:
            told = f"not calibrated ({error}); mend it and run fgvc calibrate {quoted(run.folder)}\n"
    print_summary(f"trained {counted(cli.trainer.current_epoch, 'epoch')}", values, "val/")
    tell(f"{told}model: {path}")
    then = "predict {} PHOTO..." if cli.model.scores_classes else "few-shot enroll {} FOLDER"
    tell(f"next:  fgvc test {quoted(run.folder)}\n       fgvc {then.format(quoted(run.folder))}")
