"""How much resolution generated birds need: the same network, pictures and epochs at a small and at a large image size.

    python -m benchmarks.experiments.mark_size --backbone mobilenetv2_100 --weights FILE.safetensors \\
        --model-arg pad_type=same

Trains a whole-image classifier once per size and seed and prints the test accuracy of species, genus, family and order.
Species differ in one small mark only, so a model that cannot see it knows the genus at best.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from tqdm import tqdm

from fgvc.data.sources.generated_birds import GeneratedBirds
from fgvc.images.decoding import decode
from fgvc.images.resizing import EvalResize, resize_for_eval
from fgvc.taxonomy.tree import Taxonomy


def main(argv: Sequence[str] | None = None) -> int:
    """Train, test and print one row per size and seed, then the difference between the sizes."""
    options = _options(argv)
    source = GeneratedBirds(
        num_orders=options.num_orders,
        train_per_class=options.train_per_class,
        val_per_class=0,
        test_per_class=options.test_per_class,
        image_size=max(options.sizes),
        mark_size=options.mark_size,
    )
    print(f"{source.taxonomy}, mark_size {options.mark_size}, {options.backbone}, {options.epochs} epochs")
    levels = source.taxonomy.levels[::-1]
    print("| side | seed | " + " | ".join(levels) + " | minutes |\n|---|---|" + "---|" * (len(levels) + 1))
    species: dict[int, list[float]] = {size: [] for size in options.sizes}
    for size in options.sizes:
        train, test = (_tensors(source, split, size) for split in ("train", "test"))
        for seed in options.seeds:
            start = time.perf_counter()
            model = _train(_network(options, source.taxonomy.num_classes, seed), *train, options, seed)
            shares = accuracies(_scores(model, test[0], options), test[1], source.taxonomy)
            species[size].append(shares[source.taxonomy.leaf_level])
            cells = " | ".join(f"{100 * shares[level]:.1f}" for level in levels)
            print(f"| {size} | {seed} | {cells} | {(time.perf_counter() - start) / 60:.1f} |", flush=True)
    means = {size: 100 * float(np.mean(values)) for size, values in species.items()}
    print(f"species: {means[max(means)] - means[min(means)]:+.1f} points from {min(means)} to {max(means)} px")
    return 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[96, 384], help="image sides to compare")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the head and the order of the pictures")
    parser.add_argument("--mark-size", type=float, default=0.03, help="as in GeneratedBirds")
    parser.add_argument("--num-orders", type=int, default=1, help="16 species each")
    parser.add_argument("--train-per-class", type=int, default=30)
    parser.add_argument("--test-per-class", type=int, default=15)
    parser.add_argument("--backbone", default="mobilenetv2_100", help="a name of timm.list_models()")
    parser.add_argument("--weights", help="a local safetensors file; without it timm downloads its own")
    parser.add_argument("--model-arg", action="append", default=[], help="NAME=VALUE for timm.create_model")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1e-3)
    return parser.parse_args(argv)


def _network(options: argparse.Namespace, num_classes: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    extra: dict[str, Any] = dict(word.split("=", 1) for word in options.model_arg)
    net: nn.Module = timm.create_model(
        options.backbone, pretrained=not options.weights, num_classes=num_classes, **extra
    )
    if options.weights:
        own = net.state_dict()
        kept = {name: t for name, t in load_file(options.weights).items() if name in own and t.shape == own[name].shape}
        net.load_state_dict(kept, strict=False)
        print(f"weights: {len(kept)} of {len(own)} tensors", file=sys.stderr)
    return net.to(memory_format=torch.channels_last)


def _tensors(source: GeneratedBirds, split: str, size: int) -> tuple[Tensor, Tensor]:
    """Return the pictures of a split (N, 3, S, S) uint8 and their labels (N,)."""
    records = source.records(split)
    bar = tqdm(records, desc=f"{split} at {size} px", unit="picture", file=sys.stderr)
    how = EvalResize(size)
    pixels = np.stack([resize_for_eval(decode(record.path, at_least=how.at_least), how)[0] for record in bar])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.from_numpy(records.labels.astype(np.int64))


def _normalised(images: Tensor, net: nn.Module) -> Tensor:
    config: dict[str, Any] = net.pretrained_cfg  # type: ignore[assignment]
    mean, std = (torch.tensor(config[key]).view(3, 1, 1) * 255 for key in ("mean", "std"))
    return ((images - mean) / std).contiguous(memory_format=torch.channels_last)


def _train(net: nn.Module, images: Tensor, labels: Tensor, options: argparse.Namespace, seed: int) -> nn.Module:
    """Train on (N, 3, S, S) pictures, flipped at random; AdamW with a one-cycle learning rate."""
    torch.manual_seed(seed)
    steps = options.epochs * (len(images) // options.batch_size)
    optimizer = torch.optim.AdamW(net.parameters(), lr=options.lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.lr, total_steps=steps, pct_start=0.15)
    net.train()
    bar = tqdm(range(steps), desc=f"training at {images.shape[-1]} px", unit="step", file=sys.stderr)
    for step in bar:
        if step % (len(images) // options.batch_size) == 0:
            order = iter(torch.randperm(len(images)).tensor_split(steps // options.epochs))
        chosen = next(order)
        flip = torch.rand(len(chosen), 1, 1, 1) < 0.5
        batch = torch.where(flip, images[chosen].flip(3), images[chosen])
        loss = nn.functional.cross_entropy(net(_normalised(batch, net)), labels[chosen], label_smoothing=0.1)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
        bar.set_postfix(loss=f"{loss.item():.2f}")
    return net.eval()


@torch.no_grad()
def _scores(net: nn.Module, images: Tensor, options: argparse.Namespace) -> Tensor:
    """Return the logits (N, K)."""
    parts = images.tensor_split(-(-len(images) // options.batch_size))
    return torch.cat([net(_normalised(part, net)) for part in parts])


def accuracies(logits: Tensor, labels: Tensor, taxonomy: Taxonomy) -> dict[str, float]:
    """Return level -> share of the N pictures whose best class of that level is the true one."""
    scores = taxonomy.complete({taxonomy.leaf_level: logits})
    hits = {level: scores[level].argmax(1) == taxonomy.targets(labels, level) for level in taxonomy.levels}
    return {level: float(hit.float().mean()) for level, hit in hits.items()}


if __name__ == "__main__":
    raise SystemExit(main())
