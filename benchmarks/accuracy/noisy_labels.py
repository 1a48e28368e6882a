"""What each method for wrong labels is worth: heads on frozen features of CUB whose training labels are made wrong.

Every method is a run of `fgvc fit` on the vectors of one frozen network, with equal epochs; the test labels are clean.
The features folder (`fgvc embed`, splits train and test, `--data.val_fraction 0`) serves the audit, the curriculum and
the scores. The oracle leaves the wrong labels out.

    python -m benchmarks.accuracy.noisy_labels --features features/dev --root $CUB --runs runs/noise \\
        --weights $WEIGHTS/mobilenetv2_100.tf_in1k.safetensors
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from fgvc.__main__ import main as fgvc
from fgvc.confidence.paired import bootstrap
from fgvc.features.folder import Part, open_features
from fgvc.model_file.model import load

NOISES = {
    "uniform 40 %": ["--data.noise.kind", "uniform", "--data.noise.share", "0.4"],
    "relatives 40 %": ["--data.noise.kind", "relatives", "--data.noise.share", "0.4"],
    "strangers 33 %": ["--data.noise.kind", "strangers", "--data.noise.classes", "[134-200]"],
}
RECOGNIZER = "--model.recognizer"
HEAD = f"{RECOGNIZER}.head"
LOSS = f"{HEAD}.loss"
METHODS: dict[str, list[str]] = {
    "plain": [],
    "bootstrapping, soft": [LOSS, "Bootstrapping"],
    "bootstrapping, hard": [LOSS, "Bootstrapping", f"{LOSS}.hard", "true"],
    "generalised cross-entropy": [LOSS, "GeneralisedCrossEntropy"],
    "the same, truncated": [LOSS, "GeneralisedCrossEntropy", f"{LOSS}.truncate", "0.5"],
    "symmetric cross-entropy": [LOSS, "SymmetricCrossEntropy"],
    "co-teaching": [RECOGNIZER, "CoTeaching", f"{RECOGNIZER}.forget_rate", "0.4", f"{HEAD}.dropout", "0.2"],
    "curriculum, published": ["--data.stages", "{counting}", "--data.stage_weights", "[1,0.5,0.5]"],
    "curriculum, neighbours": ["--data.stages", "{neighbours}", "--data.stage_weights", "[1,0.5,0.5]"],
    "audit and exclude": ["--data.exclude", "{random}"],
    "audit (rule both) and exclude": ["--data.exclude", "{both}"],
    "audit and relabel": ["--data.relabel", "{random}"],
    "oracle": ["--data.exclude", "{noise}"],
}  # fmt: skip
STAGED = "[{name: head, epochs: 6, subsets: [clean], balance: class_balanced}, {name: head, epochs: 5, subsets: 2}, \
{name: head, epochs: 4}]"
EPOCHS = 15


def run(words: Sequence[str]) -> None:
    """Call fgvc; raises SystemExit where it fails."""
    if code := fgvc(list(words)):
        raise SystemExit(code)


def tables(options: argparse.Namespace, folder: Path) -> dict[str, str]:
    """Write what the methods read, from the labels of the plain run, and return name -> file."""
    noise = str(folder / "plain" / "noise.csv")
    made = {"noise": noise}
    for rule in ("random", "both"):
        made[rule] = str(folder / f"audit_{rule}.csv")
        run(
            [
                "data",
                "audit",
                options.features,
                "--labels",
                noise,
                "--rule",
                rule,
                "--output",
                made[rule],
                "--overwrite",
            ]
        )
    for form in ("counting", "neighbours"):
        made[form] = str(folder / f"stages_{form}.csv")
        words = ["--labels", noise, "--density", form, "--output", made[form], "--overwrite"]
        run(["curriculum", options.features, *words])
    return made


@torch.inference_mode()
def right(run_folder: Path, test: Part, kept: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Return (N,) whether the model of a run names each kept test photograph, from its vector."""
    model = load(run_folder / "model")
    logits = model.recognizer.eval()(torch.from_numpy(np.array(test.features[kept], dtype=np.float32))).logits
    leaves = model.taxonomy.leaf_level
    named = logits[leaves].argmax(dim=1).numpy()
    answered: npt.NDArray[np.float64] = (named == test.labels[kept]).astype(np.float64)
    return answered


def fitted(options: argparse.Namespace, name: str, words: Sequence[str], noise: Sequence[str], seed: int) -> Path:
    """Train one method unless its run is there, and return the run's folder."""
    backbone = f"{RECOGNIZER}.backbone"
    folder = Path(options.runs) / name
    if (folder / "model" / "fgvc.json").is_file():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    staged = any("stages" in word for word in words)
    phases = STAGED if staged else f"[{{name: head, epochs: {EPOCHS}}}]"
    run([
        *("fit", "--config", "cub", "--config", "linear_probe", "--data.source.root", options.root),
        *("--data.source.protocol", "dev", "--data.val_fraction", "0", "--data.augmentation.off", "true"),
        *(f"{backbone}.name", "mobilenetv2_100", f"{backbone}.weights", options.weights),
        *(f"{backbone}.model_args", "{pad_type: same}", f"{backbone}.mean", "[0.5,0.5,0.5]"),
        *(f"{backbone}.std", "[0.5,0.5,0.5]", "--model.image_size", "224", "--data.batch_size", "64"),
        *("--trainer.max_epochs", str(EPOCHS), "--phases", phases, "--seed_everything", str(seed)),
        *("--runs", str(folder.parent), "--name", folder.name, *noise, "--data.noise.seed", str(seed), *words),
    ])  # fmt: skip
    return folder


def main() -> None:
    """Train what is missing and print a table per noise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", required=True, help="of the same network, splits train and test")
    parser.add_argument("--root", required=True, help="the folder of CUB-200-2011")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--runs", default="runs/noise", help="the folder of these runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--only", nargs="+", default=list(NOISES), choices=list(NOISES))
    options = parser.parse_args()
    test = open_features(options.features).part("test")
    for kind in options.only:
        answers: dict[str, list[npt.NDArray[np.float64]]] = {name: [] for name in METHODS}
        kept = test.labels < 133 if kind.startswith("strangers") else test.labels >= 0
        for seed in options.seeds:
            place = f"{kind.split()[0]}_{seed}"
            fitted(options, f"{place}/plain", [], NOISES[kind], seed)
            made = tables(options, Path(options.runs) / place)
            for name, words in METHODS.items():
                given = [word.format(**made) if word.startswith("{") else word for word in words]
                folder = fitted(
                    options, f"{place}/{name.replace(' ', '_').replace(',', '')}", given, NOISES[kind], seed
                )
                answers[name].append(right(folder, test, kept))
        show(kind, answers)


def show(kind: str, answers: dict[str, list[npt.NDArray[np.float64]]]) -> None:
    """Print one table: accuracy, difference from plain with its interval, share of the way to the oracle."""
    plain, oracle = (np.mean(answers[name], axis=0) for name in ("plain", "oracle"))
    print(f"\n| {kind} | seeds | mean | over plain | 95 % | share of the way |\n|---|---|---|---|---|---|")
    for name, of_seeds in answers.items():
        mean = np.mean(of_seeds, axis=0)
        gain = bootstrap(mean - plain)
        seeds = ", ".join(f"{100 * one.mean():.1f}" for one in of_seeds)
        way = (mean.mean() - plain.mean()) / (oracle.mean() - plain.mean())
        print(
            f"| {name} | {seeds} | {100 * mean.mean():.1f} | {100 * gain.mean:+.1f} | {100 * gain.low:+.1f} to "
            f"{100 * gain.high:+.1f} | {100 * way:.0f} % |",
            flush=True,
        )


if __name__ == "__main__":
    main()
