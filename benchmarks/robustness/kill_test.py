"""Kill a training run again and again, resume it each time, and compare what it becomes with a run that was left alone.

python -m benchmarks.robustness.kill_test --kills 10

Both runs train a small network on generated birds with augmentation, mixup, averaged weights and two processes that
decode.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

WORDS = [
    "--config", "generated_birds", "--config", "whole_image", "--data.source.train_per_class", "5",
    "--model.recognizer.backbone.name", "test_resnet", "--model.recognizer.backbone.weights", "none",
    "--model.image_size", "64", "--model.mixup", "0.2", "--ema", "0.99", "--data.batch_size", "8",
    "--data.num_workers", "2", "--trainer.accelerator", "cpu", "--save_every_minutes", "0",
]  # fmt: skip


def main() -> int:
    """Run both and print what was found; 0 where every number is the same."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("words", nargs="*", help="more flags of fgvc fit, after --")
    args = parser.parse_args()
    words = [*WORDS, "--trainer.max_epochs", str(args.epochs), *args.words]
    with tempfile.TemporaryDirectory() as folder:
        place, dice = Path(folder), random.Random(args.seed)
        fit(place, [*words, "--name", "straight"]).wait()
        kills = killed(place, [*words, "--name", "killed"], args.kills, dice)
        differing = different(place / "runs/straight", place / "runs/killed")
    print(f"{kills} kills; tensors of weights, averages and optimizer that differ: {differing}")
    return int(differing != 0)


def fit(place: Path, words: list[str]) -> "subprocess.Popen[bytes]":
    """Start a training run."""
    with (place / "log.txt").open("ab") as log:
        return subprocess.Popen([sys.executable, "-m", "fgvc", "fit", *words], cwd=place, stdout=log, stderr=log)


def killed(place: Path, words: list[str], kills: int, dice: random.Random) -> int:
    """Train a run that is killed `kills` times at random moments after it began or went on; return how often it was."""
    checkpoint = place / "runs/killed/checkpoints/last.ckpt"
    done = 0
    while True:
        before = changed(checkpoint)
        process = fit(place, ["--resume", "runs/killed"] if before else [*words, "--overwrite", "true"])
        while done < kills and process.poll() is None:
            if changed(checkpoint) != before:
                time.sleep(dice.uniform(0, 3))
                process.send_signal(signal.SIGKILL)
                done += process.wait() == -signal.SIGKILL
                print(f"kill {done}", file=sys.stderr, flush=True)
            time.sleep(0.01)
        if process.wait() == 0:
            return done


def changed(path: Path) -> float:
    """Return when a file was written; 0 where there is none."""
    return path.stat().st_mtime if path.is_file() else 0.0


def different(one: Path, other: Path) -> int:
    """Count the tensors of the last checkpoints that differ in a bit."""
    states = [torch.load(run / "checkpoints/last.ckpt", weights_only=True) for run in (one, other)]
    first, second = ({**tensors(state)} for state in states)
    if first.keys() != second.keys():
        raise SystemExit(f"different contents: {sorted(first.keys() ^ second.keys())[:5]}")
    return sum(not torch.equal(value, second[key]) for key, value in first.items())


def tensors(thing: object, name: str = "") -> dict[str, torch.Tensor]:
    """Return every tensor of the weights, averages and optimizer states in nested plain data, by its place."""
    if isinstance(thing, torch.Tensor):
        return {name: thing}
    pairs = thing.items() if isinstance(thing, dict) else enumerate(thing) if isinstance(thing, list | tuple) else ()
    wanted = ("state_dict", "current_model_state", "averaging_state", "optimizer_states")
    found: dict[str, torch.Tensor] = {}
    for key, value in pairs:
        if name or key in wanted:
            found |= tensors(value, f"{name}/{key}")
    return found


if __name__ == "__main__":
    sys.exit(main())
