"""What newcomers call a key: words of other tools and of the command line -> the key of fgvc that means the same."""

from collections.abc import Iterable, Mapping, Sequence

from fgvc.errors import did_you_mean

_NETWORK, _WEIGHTS = "model.recognizer.backbone.name", "model.recognizer.backbone.weights"
MEANT: Mapping[str, Sequence[str]] = {
    _NETWORK: ("arch", "architecture", "backbone", "encoder", "model", "model_name", "net", "network", "timm_model",
               "model.name"),
    _WEIGHTS: ("pretrained", "pretrained_path", "weights", "weights_path", "load_from", "init_checkpoint"),
    "model.recognizer.backbone.model_args": ("drop_path", "drop_path_rate", "model_kwargs"),
    "model.recognizer.head.dropout": ("dropout", "drop", "drop_rate", "dropout_rate"),
    "model.recognizer.head.label_smoothing": ("label_smoothing", "smoothing"),
    "model.recognizer.head.loss": ("loss", "criterion", "loss_fn", "loss_function", "train_loss"),
    "model.lr": ("learning_rate", "base_lr", "lr0", "rate"),
    "model.weight_decay": ("wd", "l2", "decay"),
    "model.optimizer": ("opt", "optim", "solver"),
    "model.warmup_epochs": ("warmup", "lr_warmup_epochs"),
    "model.image_size": ("img_size", "imgsz", "img", "input_size", "resolution", "size", "res", "image_sz"),
    "trainer.max_epochs": ("epochs", "epoch", "num_epochs", "n_epochs", "nb_epochs", "max_epoch"),
    "trainer.max_steps": ("steps", "iterations", "num_steps", "iters"),
    "trainer.accelerator": ("device", "cuda", "gpu", "cpu", "use_gpu", "use_cuda"),
    "trainer.devices": ("gpus", "num_gpus", "gpu_ids", "n_gpus", "nproc_per_node"),
    "trainer.precision": ("amp", "fp16", "half", "bf16", "mixed_precision", "use_amp", "dtype"),
    "trainer.accumulate_grad_batches": ("grad_accum", "accum", "gradient_accumulation_steps", "grad_accum_steps"),
    "trainer.gradient_clip_val": ("clip_grad", "grad_clip", "clip", "max_norm"),
    "trainer.log_every_n_steps": ("log_interval", "print_freq", "log_every"),
    "data.batch_size": ("batch", "bs", "b", "train_batch_size", "batchsize"),
    "data.num_workers": ("workers", "j", "n_workers", "num_proc"),
    "data.source.root": ("root", "data", "data_dir", "data_path", "dataset", "datadir", "dir", "folder", "train_dir",
                         "path", "data_root", "input", "images"),
    "data.source.levels": ("levels", "hierarchy"),
    "data.val_fraction": ("val_split", "validation_split", "val_size", "val_ratio", "val_percent", "valid_pct"),
    "data.augmentation": ("augment", "aug", "augmentations", "transforms"),
    "data.augmentation.flip": ("hflip", "fliplr", "horizontal_flip"),
    "data.augmentation.policy": ("aa", "auto_augment", "randaugment"),
    "data.augmentation.erase": ("reprob", "erasing", "random_erasing", "random_erase"),
    "data.crop_fraction": ("crop_pct", "crop_ratio"),
    "data.balance": ("class_weights", "weighted_sampler", "oversample"),
    "seed_everything": ("seed", "random_seed", "random_state"),
    "runs": ("output", "output_dir", "out", "out_dir", "save_dir", "log_dir", "logdir", "outdir", "project"),
    "name": ("exp_name", "experiment", "experiment_name", "run_name"),
    "early_stopping": ("patience", "early_stop", "early_stopping_patience"),
    "ema": ("ema_decay", "model_ema", "model_ema_decay", "use_ema"),
    "find_lr": ("lr_find", "auto_lr_find", "lr_finder", "auto_lr"),
    "find_batch_size": ("auto_batch", "auto_scale_batch_size", "autobatch"),
    "resume": ("resume_from", "resume_from_checkpoint", "continue"),
    "init_from": ("finetune", "fine_tune", "init_weights", "start_from"),
    "ckpt_path": ("checkpoint", "ckpt", "checkpoint_path"),
    "overwrite": ("force", "exist_ok", "overwrite_output_dir"),
}  # fmt: skip
"""Key -> the words that mean it. A word that ends a key of fgvc (`lr`, `batch_size`) needs no line."""
TAKES: Mapping[str, str] = {
    _NETWORK: "a name of timm, e.g. resnet50",
    _WEIGHTS: "pretrained, none or a file",
    "trainer.accelerator": "auto, cpu or gpu",
    "trainer.precision": "32, 16-mixed or bf16-mixed",
    "data.source.root": "with --config image_folder",
    "data.val_fraction": "a share, e.g. 0.1",
    "runs": "the folder of all runs; name is the run's",
}
"""Key -> what it takes, where the word that was typed took something else."""
NO_KEY: Mapping[str, Sequence[str]] = {
    "it follows from the data; leave it out": ("num_classes", "n_classes", "nc", "classes", "class_names"),
    "the rate rises over model.warmup_epochs and falls along a cosine; leave it out": ("scheduler", "sched",
        "lr_scheduler", "lr_schedule"),
    "a method is a config: --config hse; fgvc configs lists them": ("method", "recognizer", "head", "task"),
    "--config linear_probe trains the head alone": ("freeze", "freeze_backbone", "frozen"),
    "FGVC_DEBUG=1 shows the trace of an error": ("debug", "verbose", "v"),
}  # fmt: skip
"""What to know -> the words that have no key of their own."""


def nearest_key(typed: str, keys: Sequence[str]) -> str:
    """Return `; did you mean 'KEY'?` for a key that is unknown: by its meaning, else by its spelling, or nothing.

    Args:
        typed: the key as a person wrote it, dotted or not.
        keys: those that the parser knows, dotted.
    """
    word = typed.lower().replace("-", "_").strip("_")
    parts = word.split(".")
    suffixes = [".".join(parts[start:]) for start in range(len(parts))]
    if len(parts) > 1 and (key := _meant(word, keys)):
        return _said(key)
    if same := [key for key in keys if key.rpartition(".")[2] == parts[-1] and key != word]:
        return _said(same[0]) if len(same) == 1 else did_you_mean(word, same, limit=1) or _said(same[0])
    for suffix in suffixes:
        if key := _meant(suffix, keys):
            return _said(key)
    if note := next((note for note, words in NO_KEY.items() if parts[-1] in words), ""):
        return f"; {note}"
    paths = [".".join(parts[:end]) for end in range(len(parts), 0, -1)]
    if near := next((near for path in paths if path not in keys and (near := did_you_mean(path, keys, limit=1))), ""):
        return near
    ends = {key.rpartition(".")[2]: key for key in keys}
    return next((_said(ends[end]) for end in ends if did_you_mean(parts[-1], [end], cutoff=0.8)), "")


def meant_key(word: str, keys: Sequence[str]) -> str:
    """Return `; did you mean 'KEY'?` for a word by its meaning alone, or nothing."""
    key = _meant(word, keys)
    return _said(key) if key else ""


def nearest_argument(typed: str, arguments: Iterable[str]) -> str:
    """Return the same for an argument of a class."""
    known = list(arguments)
    meant = (key.rpartition(".")[2] for key, words in MEANT.items() if typed.lower() in words)
    return next((f"; did you mean {one!r}?" for one in meant if one in known), "") or did_you_mean(typed, known)


def _meant(word: str, keys: Sequence[str]) -> str:
    """Return the key that a word means, if the parser knows it, or a part that has such an argument."""
    wanted = (key for key, words in MEANT.items() if word in words)
    return next((key for key in wanted if any(_holds(one, key) for one in keys)), "")


def _holds(known: str, key: str) -> bool:
    return key == known or ("." in known and key.startswith(f"{known}."))


def _said(key: str) -> str:
    takes = f" ({TAKES[key]})" if key in TAKES else ""
    return f"; did you mean {key!r}{takes}?"
