"""Find again the network that made a folder of features, for photographs that are to be compared with them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fgvc.errors import FgvcError, UsageError
from fgvc.features.folder import FeatureFolder
from fgvc.features.network import Network, Wishes, plain_sha256, read_network, state_sha256
from fgvc.images.resizing import EvalResize
from fgvc.methods.embedder import Embedder
from fgvc.methods.recognizers.base import Recognizer


def network_of(folder: FeatureFolder, name: str | None = None) -> Network:
    """Read the network of a folder of features, with the preprocessing that its photographs had.

    Args:
        folder: what `fgvc embed` wrote.
        name: where the model or the weights of a network of timm lie now; by default where they were.

    Raises:
        UsageError: it cannot be found, or is another network now.
        FgvcError: pretrained weights that cannot be loaded.
    """
    said = folder.description
    given = str(said.get("weights", {}).get("given", ""))
    # Folders of an older fgvc did not keep the arguments of a network of timm.
    older = {"name": said.get("network")} if said.get("model") == said.get("network") else None
    arguments: Mapping[str, Any] | None = said.get("arguments", older)
    word, wishes = name or given, Wishes(**_shown(said))
    if arguments is not None and not Path(word).is_dir():
        word, wishes = str(arguments["name"]), _wishes(said, arguments, word)
    try:
        network = read_network(word, wishes)
    except FgvcError as error:
        raise UsageError(
            f"{folder.path}: its network cannot be read ({error}); say where it is with --model, or embed again"
        ) from None
    check_same(folder, network.module, network.resize, network.built, word)
    return network


def check_same(folder: FeatureFolder, module: Any, resize: EvalResize, built: Mapping[str, Any], name: str) -> None:
    """Raise UsageError unless a network is the one that made a folder of features.

    Args:
        folder: what `fgvc embed` wrote.
        module: a Recognizer or a Backbone.
        resize: how photographs are shown to it.
        built: see Network.
        name: of the network, for the message.
    """
    terms = folder.description["terms"]
    try:
        weights = state_sha256(Embedder(module, terms.get("take", "prelogits")))
    except UsageError as error:
        raise UsageError(f"{folder.path}: features of another network than {name} ({error})") from None
    found = {"weights": weights, "architecture": plain_sha256(built)[:16], "resize": resize._asdict()}
    for what, value in found.items():
        if terms.get(what) != value:
            was, now = (_short(one) for one in (terms.get(what), value))
            older = (
                "" if "arguments" in folder.description else " (an older fgvc did not keep --mean, --std, --model_args)"
            )
            raise UsageError(
                f"{folder.path}: features of another network than {name}: its {what} is {now}, that of the features "
                f"{was}; give the fgvc embed of this folder again{older}, or embed with this network"
            )


def answers_with_its_embedding(module: Any) -> bool:
    """Whether the vector that a network's answer carries is the one that `fgvc embed` keeps."""
    return isinstance(module, Recognizer) and type(module).embed is Recognizer.embed


def _wishes(said: Mapping[str, Any], arguments: Mapping[str, Any], weights: str) -> Wishes:
    """Return what was said of a network of timm."""
    own = {key: arguments.get(key) for key in ("model_args", "mean", "std")}
    return Wishes(weights=weights, image_size=said["image_size"], **own, **_shown(said))


def _shown(said: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in said["resize"].items() if key != "size"}


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {one}" for key, one in value.items())
    return f"{str(value)[:8]}..."
