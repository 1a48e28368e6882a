"""`fgvc fit`: train a run from its beginning, or go on with one."""

import sys
from pathlib import Path
from typing import Any

from fgvc.commands.calibrate import calibrated
from fgvc.config.run_cli import RunCLI, with_config_paths
from fgvc.errors import FgvcError, UsageError
from fgvc.files import run_folder
from fgvc.files.origin import environment
from fgvc.model_file.architecture import to_plain
from fgvc.model_file.model import Model, save
from fgvc.training import callback_list, checkpoints, metrics_file
from fgvc.training.callbacks.progress import print_summary


def main(args: list[str]) -> int:
    """Train; raises FgvcError with one line where a person has to act."""
    words, resumed = _from_run(args)
    words, stems = with_config_paths(words)
    if not any(word.partition("=")[0] == "--name" for word in words):
        words = ["--name", "-".join(stems) or "run", *words]
    cli = RunCLI("fit", words, resumed)
    try:
        start = _go_on(cli, resumed) if resumed else None
        cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=start, weights_only=True)
    except FgvcError:
        if cli.trainer.is_global_zero and cli.trainer.global_step == 0 and not resumed:
            run_folder.discard(cli.folder)
        raise
    if cli.trainer.is_global_zero:
        _finish(cli)
    return 0


def _from_run(args: list[str]) -> tuple[list[str], Path | None]:
    """Read `--resume RUN` as that run's config, followed by what else was typed: it wins over what was stored."""
    for i, word in enumerate(args):
        flag, equals, value = word.partition("=")
        if flag == "--resume":
            if not equals and i + 1 == len(args):
                raise UsageError("--resume: give the run folder to go on with, e.g. fgvc fit --resume runs/latest")
            rest = args[:i] + args[i + (1 if equals else 2) :]
            for other in ("--name", "--runs", "--overwrite", "--init_from"):
                if any(word.partition("=")[0] == other for word in rest):
                    raise UsageError(f"--resume goes on in the same run; {other} does not go with it")
            run = run_folder.resolve(Path(value if equals else args[i + 1]))
            if not run_folder.last(run).is_file():
                raise UsageError(f"{run}: no checkpoint to go on from; start the run again with --overwrite true")
            own = ["--name", run.resolve().name, "--runs", str(run.resolve().parent)]
            return ["--config", str(run / run_folder.CONFIG), *own, *rest], run
    return args, None


def _go_on(cli: RunCLI, run: Path) -> Path:
    """Return the checkpoint to go on from, if it fits; the run folder notes that the run is resumed."""
    path = run_folder.last(run)
    state = checkpoints.read(path)
    epoch, step, epochs = int(state["epoch"]), int(state["global_step"]), cli.trainer.max_epochs
    if epochs is not None and 0 <= epochs < epoch:
        raise UsageError(f"--trainer.max_epochs: {epochs}, but {run} is in epoch {epoch} already; give more")
    stored, hparams = state.get("hyper_parameters", {}), dict(cli.model.hparams)
    if stored.get("optimizer") != hparams["optimizer"]:
        raise UsageError(
            f"--model.optimizer: {hparams['optimizer']}, but {path} holds the state of {stored.get('optimizer')}; "
            "resume with it, or start a new run with --init_from"
        )
    shapes = {name: tensor.shape for name, tensor in state["state_dict"].items()}
    wanted = {name: tensor.shape for name, tensor in cli.model.state_dict().items()}
    if odd := sorted(name for name in shapes.keys() | wanted.keys() if shapes.get(name) != wanted.get(name)):
        raise UsageError(
            f"{path}: made by another model or for other classes ({len(odd)} tensors differ, {odd[0]} first); "
            "--resume goes on with the same one, --init_from starts a new run from its weights"
        )
    cli.datamodule.trainer = cli.trainer  # the order of the images depends on how many processes share them
    for loader in state["loops"]["fit_loop"]["state_dict"].get("combined_loader", []):
        cli.datamodule.train_dataloader().load_state_dict(loader)  # refuses another order before anything is written
    if cli.trainer.is_global_zero:
        metrics_file.keep_until(run / "metrics.csv", step)
        run_folder.go_on(run, cli.plain_config())
        print(f"resume {run}: epoch {epoch} of {epochs}, after step {step}", file=sys.stderr)
    return path


def _finish(cli: RunCLI) -> None:
    """Write the model of a run that is trained, calibrate it, and tell."""
    chosen = run_folder.checkpoint(cli.folder)
    values = {name: round(float(value), 6) for name, value in cli.trainer.callback_metrics.items()}
    config = cli.kept if cli.resumed else cli.config  # of a resumed run the weights were read from its checkpoint
    try:
        architecture = to_plain(config["model"]["recognizer"].as_dict())
    except UsageError as error:
        print(f"no model file: {error}; {chosen} holds the whole training state", file=sys.stderr)
        return
    checkpoints.load_weights(cli.model.recognizer, chosen)
    best = callback_list.best_of(cli.trainer)
    provenance: dict[str, Any] = {
        "run": cli.config["name"],
        "checkpoint": chosen.name,
        "metrics": best or values,
        **environment(),
    }
    model = Model(cli.model.recognizer.eval(), architecture, cli.datamodule.resize, {}, provenance)
    path = save(model, cli.folder / run_folder.MODEL)  # at once: the calibration reads images, which may fail
    told = ""
    if "val" in cli.datamodule.splits:
        try:
            told = calibrated(cli, model, "val")
            save(model, path)
        except FgvcError as error:
            told = f"not calibrated ({error}); mend it and run fgvc calibrate {cli.folder}\n"
    print_summary(f"trained {cli.trainer.current_epoch} epochs", values, "val/")
    print(f"{told}model: {path}", file=sys.stderr)
    print(f"next:  fgvc test {cli.folder}\n       fgvc predict {cli.folder} PHOTO...", file=sys.stderr)
