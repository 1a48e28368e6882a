"""The network that made a folder of features, again: for a classifier that is to stand on it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fgvc.errors import UsageError
from fgvc.features.folder import FeatureFolder
from fgvc.features.network import Network, Wishes, read_network, state_sha256
from fgvc.methods.embedder import Embedder


def reopened(folder: FeatureFolder, given: str | None = None) -> tuple[Network, Embedder]:
    """Return the network of a folder of features, and what makes features of it; both as they were.

    Args:
        folder: the features.
        given: where its weights lie now, or the folder of the model, if that is elsewhere than it was.

    Raises:
        UsageError: it is not there any more, or it is another one by now.
        FgvcError: a damaged model, or pretrained weights that cannot be loaded.
    """
    described = folder.description
    weights = given or str(described["weights"]["given"])
    network = read_network(*_asked(described, weights))
    embedder = Embedder(network.module, described["take"]).eval()
    if state_sha256(embedder) != described["weights"]["sha256"]:
        raise UsageError(
            f"{folder.path}: {weights} is not the network that these features are of; give --weights FILE_OR_MODEL "
            "where that lies, or embed again with --overwrite"
        )
    return network, embedder


def _asked(described: Mapping[str, Any], weights: str) -> tuple[str, Wishes]:
    """Return the name and the wishes that `read_network` makes the same network from."""
    resize = {key: described["resize"][key] for key in ("fit", "crop_fraction", "interpolation")}
    older = {"name": described["network"]} if described["model"] == described["network"] else None
    arguments = described.get("arguments", older)  # folders of before it was noted are of usual arguments, mostly
    if arguments is None or Path(weights).is_dir():
        return weights, Wishes(**resize)
    own = {key: arguments.get(key) for key in ("model_args", "mean", "std")}
    return str(arguments["name"]), Wishes(weights=weights, image_size=described["image_size"], **own, **resize)
