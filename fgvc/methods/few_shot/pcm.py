"""PCM: the weights of a linear classifier, made out of a few images by a learnt mapping.

Shape letters: E episodes, S support images, Q query images, W ways, N images, C channels, h, w grid, D channels of the
bilinear features.
"""

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from fgvc.errors import UsageError, did_you_mean
from fgvc.methods.few_shot.base import Episode, FewShotClassifier, assignments
from fgvc.methods.in_parts import in_parts

MAPPINGS = ("piecewise", "global", "identity")
EPSILON = 1e-6  # keeps the slope of the square root finite at 0
LAYERS = 3  # linear ones of a mapping


def bilinear(maps: Tensor) -> Tensor:
    """Return (N, D, D): mean products of channels x, then x / sqrt(|x| + 1e-6), the whole scaled to length 1.

    The fraction is the signed square root, smooth at 0. In float32 or better, also under autocast.

    Args:
        maps: (N, D, h, w).
    """
    kind = torch.promote_types(maps.dtype, torch.float32)
    with torch.autocast(maps.device.type, enabled=False):
        places = maps.to(kind).flatten(2)
        products = torch.bmm(places, places.transpose(1, 2)) / places.shape[2]
        roots = products / (products.abs() + EPSILON).sqrt()
        return normalize(roots.flatten(1), dim=1).view_as(products)


def uniform(*shape: int, fan_in: int) -> nn.Parameter:
    """Return a parameter as `nn.Linear` starts: uniform between -1 and 1 over the square root of the inputs."""
    return nn.Parameter(torch.empty(shape).uniform_(-1, 1) / math.sqrt(fan_in))


class PiecewiseMapping(nn.Module):
    """D independent maps of D numbers to D, each three linear layers with ReLU between them, computed in one call.

    Args:
        channels: D.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        d = channels
        self.weights = nn.ParameterList(uniform(d, d, d, fan_in=d) for _ in range(LAYERS))
        self.biases = nn.ParameterList(uniform(d, 1, d, fan_in=d) for _ in range(LAYERS))

    def forward(self, features: Tensor) -> Tensor:
        """(N, D, D) -> (N, D, D); row d of an image goes through map d: x W[d] + b[d]."""
        x = features.transpose(0, 1)
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, x.relu() if layer else x, weight)
        return x.transpose(0, 1)

    @torch.no_grad()
    def silence(self) -> None:
        """Set the last layer to 0."""
        self.weights[-1].zero_()
        self.biases[-1].zero_()


class GlobalMapping(nn.Sequential):
    """One map of all D^2 numbers, of as many weights as the piecewise one has.

    A full layer would have D^4 weights, 268 million for 128 channels; so the three layers narrow to about 1.5 D.

    Args:
        channels: D.
    """

    def __init__(self, channels: int) -> None:
        d = channels
        # 2 D^2 width + width^2 = 3 D^3 weights
        width = max(1, round(math.sqrt(d**4 + LAYERS * d**3) - d**2))
        super().__init__(
            nn.Flatten(),
            nn.Linear(d * d, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, d * d),
            nn.Unflatten(1, (d, d)),
        )

    @torch.no_grad()
    def silence(self) -> None:
        """Set the last layer to 0."""
        for weight in self[5].parameters():
            weight.zero_()


class PCMClassifier(FewShotClassifier):
    """Bilinear features; those of a way's images, averaged and mapped, are the weights of its linear classifier.

    Xiu-Shen Wei, Peng Wang, Lingqiao Liu, Chunhua Shen, Jianxin Wu, "Piecewise Classifier Mappings: Learning
    Fine-Grained Learners for Novel Categories With Few Examples", TIP 2019.

    Row d of the D x D features, how channel d goes with each other, makes row d of the weights. No code was published;
    the widths of the layers and the 1 x 1 convolution that makes D out of C channels are ours.

    Args:
        in_channels: C.
        channels: D; C where that is smaller.
        mapping: `piecewise`, a map for each of the D rows; `global`, one for all, with as many weights; `identity`,
            none: the weights are the averaged features, the control that tells what the mapping is worth.
        cosine: whether the weights are scaled to length 1 and the scores multiplied by a learnt factor, 10 at first;
            not in the paper.
        residual: whether the mapping is added to the averaged features and starts as 0, so that training starts
            where `identity` stands; not in the paper.

    Attributes:
        needs_training: false for `identity`: the convolution is then a random projection.

    Raises:
        UsageError: no channel, another mapping, a residual without a mapping.
    """

    takes: ClassVar[Literal["vector", "map"]] = "map"
    needs_training: ClassVar[bool] = True

    def __init__(
        self,
        in_channels: int,
        channels: int = 128,
        mapping: Literal["piecewise", "global", "identity"] = "piecewise",
        cosine: bool = False,
        residual: bool = False,
    ) -> None:
        super().__init__(in_channels)
        if channels < 1:
            raise UsageError(f"PCMClassifier: channels {channels}; give 1 or more (usual: 128)")
        if mapping not in MAPPINGS:
            hint = did_you_mean(mapping, MAPPINGS)
            raise UsageError(f"PCMClassifier: mapping {mapping!r}; give one of {', '.join(MAPPINGS)}{hint}")
        if residual and mapping == "identity":
            raise UsageError("PCMClassifier: residual with mapping identity; it has nothing to add, leave it out")
        width = min(channels, in_channels)
        self.needs_training = mapping != "identity"  # type: ignore[misc]  # of this one, not of the class
        self.residual = residual
        self.reduce = nn.Conv2d(in_channels, width, 1)
        self.mapping: nn.Module = nn.Identity()
        if mapping != "identity":
            mapped = PiecewiseMapping(width) if mapping == "piecewise" else GlobalMapping(width)
            if residual:
                mapped.silence()
            self.mapping = mapped
        self.factor = nn.Parameter(torch.tensor(10.0)) if cosine else None

    def forward(self, episode: Episode) -> Tensor:
        """Maps of an episode -> scores (E, Q, W)."""
        images = episode.support.shape[1] + episode.query.shape[1] + episode.n_way
        numbers = 3 * images * self.reduce.out_channels**2
        return in_parts(self._scores, numbers, episode.support, assignments(episode), episode.query)

    def _scores(self, support: Tensor, ones: Tensor, query: Tensor) -> Tensor:
        """Maps (E, S, C, h, w), (E, S, W) their ways, maps (E, Q, C, h, w) -> scores (E, Q, W)."""
        exemplars, asked = (
            torch.unflatten(bilinear(self.reduce(x.flatten(0, 1))), 0, x.shape[:2]) for x in (support, query)
        )
        means = torch.bmm(ones.transpose(1, 2), exemplars.flatten(2)) / ones.sum(dim=1).unsqueeze(2)
        averaged = means.view(-1, *exemplars.shape[2:])
        mapped = self.mapping(averaged)
        weights = (averaged + mapped if self.residual else mapped).reshape(means.shape)
        if self.factor is None:
            return torch.bmm(asked.flatten(2), weights.transpose(1, 2))
        return self.factor * torch.bmm(asked.flatten(2), normalize(weights, dim=2).transpose(1, 2))
