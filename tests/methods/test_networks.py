"""One network of every module of timm gives the vector that timm's classifier reads, or is refused in one line."""

import pytest
import timm
import torch
from timm.models import is_model_in_modules, list_modules

from fgvc.errors import UsageError
from fgvc.methods.backbone import Backbone
from fgvc.methods.pooling.native import NativePooling

SMALLEST = [
    "beit_base_patch16_224", "cait_xxs24_224", "coat_tiny", "convit_tiny", "convmixer_768_32", "cpubone_nano",
    "crossvit_tiny_240", "cs3darknet_focus_s", "csatv2", "cspnext_tiny", "davit_tiny", "deepseek_vit_412m",
    "deit_tiny_patch16_224", "densenet121", "dla46x_c", "dpn48b", "edgenext_xx_small", "efficientformer_l1",
    "efficientformerv2_s0", "efficientvim_m1", "efficientvit_b0", "efficientvit_m0", "ese_vovnet19b_slim_dw",
    "fasternet_t0", "fastvit_t8", "focalnet_tiny_srf", "gcvit_xxtiny", "gemma4_vit_167m", "ghostnet_050",
    "gmlp_ti16_224", "halonet_h1", "hardcorenas_b", "hgnetv2_b0", "hiera_tiny_224", "hrnet_w18_small", "iformer_t",
    "inception_next_atto", "inception_resnet_v2", "inception_v3", "inception_v4", "lcnetv2_small",
    "legacy_seresnet18", "legacy_xception", "levit_128s", "lowformer_b0", "mobilenetv3_small_050",
    "mobilenetv5_base", "mobilevit_xxs", "mvitv2_tiny", "naflexvit_base_patch16_parfac_gap", "nasnetalarge",
    "nest_tiny", "nextvit_small", "pit_ti_224", "pnasnet5large", "poolformerv2_s12", "pvt_v2_b0", "qwen3_vit_88m",
    "rdnet_tiny", "regnetx_002", "repghostnet_050", "repvit_m1", "res2next50", "resnest14d", "resnetv2_18",
    "rexnet_100", "sam2_hiera_tiny", "samvit_base_patch16_224", "selecsls42", "sequencer2d_s", "shvit_s1",
    "skresnet18", "starnet_s050", "swiftformer_xs", "swin_tiny_patch4_window7_224", "swinv2_cr_tiny_224",
    "swinv2_tiny_window8_256", "test_byobnet", "test_coatnet", "test_convnext", "test_efficientnet",
    "test_mambaout", "test_nfnet", "test_resnet", "test_vit", "test_vit_relpos", "tiny_vit_5m_224",
    "tnt_s_legacy_patch16_224", "tresnet_m", "twins_svt_small", "vgg11", "visformer_tiny",
    "vit_tiny_patch16_dinov3_qkvb", "vit_tiny_r_s16_p8_224", "vitamin_small_224", "volo_d1_224", "xception41p",
    "xcit_nano_12_p8_224",
]  # fmt: skip
"""Those with the fewest weights, one of each module of timm 1.0.31; a module that has none of them is searched."""

REFUSED = {
    "coat_tiny": "it answers 3 tensors, not one map",
    "crossvit_tiny_240": "it answers 2 tensors, not one map",
    "efficientvim_m1": "it answers 4 tensors, not one map",
    "pit_ti_224": "its map is 1 x 1 cells where 224 px make 7",
    "volo_d1_224": "it answers 197 tokens, which are no grid",
}


def smallest(module: str) -> str:
    """Return a network of a module: the one that is known to be small, or the one with the fewest weights."""
    known = [name for name in SMALLEST if is_model_in_modules(name, [module])]
    if known:
        return known[0]
    sizes = {}
    for name in timm.list_models(module=module):
        with torch.device("meta"):
            sizes[name] = sum(p.numel() for p in timm.create_model(name, pretrained=False).parameters())
    return min(sizes, key=sizes.__getitem__)


def made(name: str) -> tuple[Backbone, int]:
    """Return a network at 112 px, a multiple of all patches, or at its own size where that does not fit."""
    native = timm.get_pretrained_cfg(name).input_size[-1]
    for side in (112, native):
        torch.manual_seed(0)
        try:
            return Backbone(side, name, "none").eval(), side
        except UsageError as error:
            assert "\n" not in str(error)
            if side == native:
                raise
    raise AssertionError


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what timm and torch say of each other while a network is made
@pytest.mark.parametrize("module", list_modules())
def test_a_network_of_every_module_gives_timms_vector_or_is_refused(module):
    name = smallest(module)
    try:
        backbone, side = made(name)
    except UsageError as error:
        assert REFUSED[name] in str(error)  # of a module that is not in the table: look whether that must be
        return
    assert name not in REFUSED
    pooling = NativePooling(backbone.channels).attach(backbone).eval()
    own = {**backbone.net.state_dict(), **pooling.own.net.state_dict()}
    images = torch.randint(256, (1, 3, side, side), generator=torch.Generator().manual_seed(0)).float()
    with torch.no_grad():
        features = backbone(images)
        vector = pooling.pool(features)
    assert features.map.shape == (1, backbone.channels, *backbone.grid)
    assert all(abs(cells - side / backbone.stride) <= 2 for cells in backbone.grid)
    assert features.map.isfinite().all()
    mean, std = backbone.mean, backbone.std
    del backbone, pooling
    net = timm.create_model(name, num_classes=0).eval()
    if hasattr(net, "set_input_size"):
        net.set_input_size(img_size=(side, side))
    net.load_state_dict({key: own[key] for key in net.state_dict()})  # each weight is in the map or in the pooling
    with torch.no_grad():
        wanted = net.forward_head(net.forward_features((images - mean) / std), pre_logits=True)
    torch.testing.assert_close(vector, wanted, rtol=0, atol=1e-5)


def test_a_network_with_whole_numbers_for_its_patches_is_told_its_size():
    images = torch.rand(1, 3, 448, 448)
    assert Backbone(448, "efficientvit_m0", "none").eval()(images).map.shape == (1, 192, 7, 7)


@pytest.mark.parametrize("name", ["mvitv2_tiny", "halonet26t"])
def test_a_network_of_one_size_says_so_before_it_sees_a_batch(name):
    with pytest.raises(UsageError, match=f"^backbone {name}: image size 448 does not fit .*; it was made for 2.. px$"):
        Backbone(448, name, "none")


@pytest.mark.parametrize("name", [*REFUSED, "pit_s_distilled_224"])
def test_a_network_without_one_map_is_refused_when_it_is_made(name):
    side = timm.get_pretrained_cfg(name).input_size[-1]
    said = REFUSED.get(name, "it answers 2 tokens, which are no grid")
    with pytest.raises(
        UsageError, match=f"^backbone {name}: it cannot be used here: {said}.*; choose another network$"
    ):
        Backbone(side, name, "none")
