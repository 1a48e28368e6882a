import timm

from fgvc.methods.pretrained import preprocessing_of


def test_it_is_what_timm_resolves_for_its_own_evaluation():
    for name in ("mobilenetv2_100.ra_in1k", "coat_lite_medium_384", "tf_efficientnet_lite2", "resnet50.tv_in1k"):
        known = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
        asked = preprocessing_of(name)
        assert asked.size == known["input_size"][-1]
        assert asked.crop_fraction == known["crop_pct"]
        assert asked.interpolation == known["interpolation"]
        assert asked.fit == ("squash" if known["crop_mode"] == "squash" else "crop")


def test_an_unknown_network_asks_for_nothing():
    assert preprocessing_of("no_such_network") is None
