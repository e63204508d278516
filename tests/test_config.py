"""A mistake in params.yaml is one clear line: where, what is allowed, the nearest match."""

import copy

import pytest
from ruamel.yaml import YAML

from pipeline.closure import ROOT
from pipeline.config.base import merged, read_params
from pipeline.config.params import load_params, member_names
from pipeline.errors import UserError
from pipeline.stages.check import check_params

SMOKE = YAML(typ="safe").load((ROOT / "presets" / "smoke.yaml").read_text())


def write(tmp_path, tree):
    path = tmp_path / "params.yaml"
    with path.open("w") as handle:
        YAML(typ="safe").dump(tree, handle)
    return path


def changed(tmp_path, where, value):
    tree = copy.deepcopy(SMOKE)
    *parents, last = where
    node = tree
    for part in parents:
        node = node.setdefault(part, {})
    node[last] = value
    return write(tmp_path, tree)


MISTAKES = [
    (("ensembel",), {}, "unknown section 'ensembel'", "did you mean 'ensemble'?"),
    (("models", "lenet", "epoch"), 3, "models.lenet.epoch: unknown key", "did you mean 'epochs'?"),
    (("models", "lenet", "augment"), {"rotate": 3}, "models.lenet.augment.rotate: unknown key", "'rotation'"),
    (("models", "lenet", "net"), "lenet", "models.lenet: unknown net 'lenet'", "did you mean 'lenet5'?"),
    (("models", "lenet", "options"), {"dropuot": 0.5}, "options.dropuot: unknown option", "did you mean 'dropout'?"),
    (("models", "lenet", "canvas"), 8, "models.lenet: net 'lenet5': canvas 8 is too small", "fix: canvas: 12"),
    (("models", "lenet", "weights"), "emma", "models.lenet.weights: unknown value 'emma'", "did you mean 'ema'?"),
    (("models", "lenet", "weights"), "best", "weights: best needs early_stopping", "rows that best is measured on"),
    (("models", "lenet", "epochs"), 0, "models.lenet.epochs", "greater than or equal to 1"),
    (("models", "le.net"), {"net": "lenet5"}, "models.le.net", "letters, digits, '_' and '-'"),
    (("models", "lenet", "batch"), None, "models.lenet.batch", "found None"),
    (("models",), {}, "models: empty", "fix: add at least one entry"),
    (("ensemble", "metric"), "logloss", "ensemble.metric: unknown value 'logloss'", "did you mean 'log_loss'?"),
    (("ensemble", "methods"), ["unifrom"], "unknown value 'unifrom'", "did you mean 'uniform'?"),
    (("ensemble", "final"), "blends", "ensemble.final", "blend"),
    (("stackers", "svm"), {"kind": "smv"}, "stackers.svm.kind: unknown value 'smv'", "did you mean 'svm'?"),
    (("stackers", "svm"), {"kind": "svm", "models": ["lenett"]}, "no model 'lenett'", "did you mean 'lenet'?"),
    (("folds", "k"), 1, "folds.k", "greater than or equal to 2"),
    (("data", "source"), "folders", "data.source: unknown value 'folders'", "did you mean 'folder'?"),
    (("seed",), "abc", "seed: expected a whole number", "found 'abc'"),
    (("models", "lenet", "options"), {"size": 3}, "models.lenet.options.size", "run-cache ignores"),
]


@pytest.mark.parametrize(("where", "value", "what", "fix"), MISTAKES, ids=[".".join(m[0]) for m in MISTAKES])
def test_one_clear_line(tmp_path, where, value, what, fix):
    with pytest.raises(UserError) as caught:
        check_params(changed(tmp_path, where, value))
    lines = str(caught.value).splitlines()
    assert any(what in line and fix in line for line in lines), lines
    assert all(line.startswith(("params.yaml", str(tmp_path))) for line in lines), lines


def test_all_mistakes_are_said_at_once(tmp_path):
    tree = copy.deepcopy(SMOKE)
    tree["folds"]["k"], tree["models"]["lenet"]["epochs"], tree["ensemble"]["metric"] = 0, -1, "f1"
    with pytest.raises(UserError) as caught:
        load_params(write(tmp_path, tree))
    assert [line.split(": ")[1] for line in str(caught.value).splitlines()] == [
        "folds.k", "ensemble.metric", "models.lenet.epochs"]


@pytest.mark.parametrize("text", ["models: [", "just text", "", "models:\n  a: 1\n  a: 2\n"])
def test_no_yaml_no_traceback(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"params\.yaml"):
        read_params(path)


def test_missing_file_says_what_to_copy(tmp_path):
    with pytest.raises(UserError, match=r"fix: cp presets/digits\.yaml"):
        read_params(tmp_path / "params.yaml")


def test_numbers_are_read_as_dvc_reads_them(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "presets" / "smoke.yaml").read_text().replace("lr: 0.01", "lr: 1e-2"))
    assert load_params(path).models["lenet"].optimiser.lr == 0.01


def test_entry_over_defaults_mapping_by_mapping():
    defaults, entry = {"a": {"x": 1, "y": 2}, "b": 1}, {"a": {"y": 3}, "c": None}
    assert merged(defaults, entry) == {"a": {"x": 1, "y": 3}, "b": 1, "c": None}
    assert merged(None, None) == {}


def test_members_follow_params(tmp_path):
    tree = copy.deepcopy(SMOKE)
    tree["stackers"] = {"svm": {"kind": "svm"}, "trees": {"kind": "lightgbm", "models": ["lenet"]}}
    params = load_params(write(tmp_path, tree))
    names = member_names(params.models, params.stackers)
    assert sorted(names) == ["lenet", "lenet.svm", "lenet.trees", "logistic", "logistic.svm"]
    assert names.index("lenet.svm") == names.index("lenet") + 1
