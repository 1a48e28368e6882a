"""BD-CSPN: prototypes rectified by the queries.

Shape letters: E episodes, Q query images, W ways, D numbers of a vector.
"""

from typing import ClassVar

from torch import Tensor
from torch.nn.functional import normalize

from fgvc.errors import UsageError
from fgvc.methods.few_shot.base import Episode, FewShotClassifier, assignments, class_means
from fgvc.methods.rectification import cosines, rectified


class BDCSPNClassifier(FewShotClassifier):
    """The cosine with prototypes that are weighted means of the support images and of the queries nearest to them.

    Jinlu Liu, Liang Song, Yongqiang Qin, "Prototype Rectification for Few-Shot Learning", ECCV 2020.

    All queries are taken for pseudo-labelled images, as easyfsl does, where the paper takes the surest of each way;
    and the scores are those of the queries before their shift. The shift is from the mean of the prototypes, not of
    the support images: the same where ways have equal numbers, and where not, a large way does not pull the queries.

    Args:
        in_channels: D.
        scale: of the cosine in the weights; the published code has 10, easyfsl 1.

    Raises:
        UsageError: a negative scale.
    """

    transductive: ClassVar[bool] = True

    def __init__(self, in_channels: int, scale: float = 10.0) -> None:
        super().__init__(in_channels)
        if not scale >= 0:
            raise UsageError(f"BDCSPNClassifier: scale {scale}; give 0 (equal weights) or more (usual: 10)")
        self.scale = scale

    def forward(self, episode: Episode) -> Tensor:
        """Vectors of an episode, scaled to length 1 first -> cosines (E, Q, W)."""
        unit = episode._replace(support=normalize(episode.support, dim=2), query=normalize(episode.query, dim=2))
        prototypes = rectified(unit.support, assignments(unit), class_means(unit), unit.query, self.scale)
        return cosines(unit.query, prototypes)
