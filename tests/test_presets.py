"""Every preset is right as a whole, and the committed params.yaml is the default one."""

import pytest

from pipeline.closure import ROOT
from pipeline.config.params import member_names
from pipeline.stages.check import check_params

PRESETS = sorted((ROOT / "presets").glob("*.yaml"))


@pytest.mark.parametrize("path", PRESETS, ids=lambda p: p.name)
def test_preset_is_valid(path):
    params = check_params(path)
    assert len(member_names(params.models, params.stackers)) >= 3


def test_the_presets_that_the_readme_names_are_there():
    assert {p.name for p in PRESETS} >= {"digits.yaml", "ndsb.yaml", "smoke.yaml"}


def test_committed_params_are_the_digits_preset():
    assert (ROOT / "params.yaml").read_bytes() == (ROOT / "presets" / "digits.yaml").read_bytes()


def test_ndsb_has_six_different_models_with_stackers():
    params = check_params(ROOT / "presets" / "ndsb.yaml")
    assert len({m.model_dump_json() for m in params.models.values()}) >= 6
    assert {s.kind for s in params.stackers.values()} == {"svm", "lightgbm"}
    assert params.data.invert
    assert params.data.source == "folder"
