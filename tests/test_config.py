"""A mistake in params.yaml is one clear line: where, what is allowed, the nearest match."""

import copy

import pytest
from ruamel.yaml import YAML

from pipeline.closure import ROOT
from pipeline.config.base import merged, read_params
from pipeline.config.params import load_params, member_names
from pipeline.config.students import teacher_names
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
    (("ensemble", "methods"), ["unifrom"], "unknown method 'unifrom'", "did you mean 'uniform'?"),
    (("ensemble", "methods"), ["blend+temperatur"], "unknown calibration 'temperatur' behind 'blend'",
     "did you mean 'temperature'?"),
    (("ensemble", "final"), "blends", "ensemble.final", "blend"),
    (("stackers", "svm"), {"kind": "smv"}, "stackers.svm.kind: unknown value 'smv'", "did you mean 'svm'?"),
    (("stackers", "svm"), {"kind": "svm", "models": ["lenett"]}, "no model 'lenett'", "did you mean 'lenet'?"),
    (("folds", "k"), 1, "folds.k", "greater than or equal to 2"),
    (("data", "source"), "folders", "data.source: unknown value 'folders'", "did you mean 'folder'?"),
    (("seed",), "abc", "seed: expected a whole number", "found 'abc'"),
    (("models", "lenet", "options"), {"size": 3}, "models.lenet.options.size", "run-cache ignores"),
    (("models", "lenet", "pseudo"), {}, "models.lenet.pseudo: only students learn", "fix: move the entry to students:"),
    (("defaults", "pseudo"), {}, "models.lenet.pseudo: only students learn", "fix: move the entry to students:"),
    (("student",), {}, "unknown section 'student'", "did you mean 'students'?"),
    (("students",), None, "students: empty", "fix: leave the section out, or students: {}"),
    (("students",), [], "students: expected a mapping from names to entries", "found []"),
    (("students", "pupil"), None, "students.pupil: expected a mapping", "found None"),
    (("students", "pu.pil"), {"net": "lenet5"}, "students.pu.pil", "letters, digits, '_' and '-'"),
    (("students", "pupil"), {"net": "lenet5"}, "students.pupil: a student needs pseudo", "{teacher: all, "),
    (("students", "lenet"), {"net": "lenet5", "pseudo": {}}, "students.lenet: models: has an entry", "fix: rename one"),
    (("students", "pupil"), {"net": "lenet6", "pseudo": {}}, "students.pupil: unknown net 'lenet6'", "'lenet5'"),
    (("students", "pupil"), {"net": "lenet5", "pseudo": {"fraction": 1}}, "pupil.pseudo.fraction", "less than 1"),
    (("students", "pupil"), {"net": "lenet5", "pseudo": {"teachers": "all"}}, "pseudo.teachers: unknown key",
     "did you mean 'teacher'?"),
    (("students", "pupil"), {"net": "lenet5", "pseudo": {"teacher": []}}, "pseudo.teacher: names no model", "fix: all"),
    (("students", "pupil"), {"net": "lenet5", "pseudo": {"teacher": ["lenett"]}}, "no model 'lenett'",
     "allowed: all or 'lenet', 'logistic'; did you mean 'lenet'?"),
    (("students", "pupil"), {"net": "lenet5", "pseudo": {"teacher": ["pupil"]}}, "'pupil' is a student",
     "fix: one of 'lenet', 'logistic'"),
    (("foreigns",), {}, "unknown section 'foreigns'", "did you mean 'foreign'?"),
    (("foreign",), None, "foreign: empty", "fix: leave the section out, or foreign: {}"),
    (("foreign", "theirs"), {"kind": "vote"}, "foreign.theirs.kind: unknown value 'vote'", "did you mean 'votes'?"),
    (("foreign", "theirs"), None, "foreign.theirs: expected a mapping", "found None"),
    (("foreign", "lenet"), {}, "foreign.lenet: models: or students: has an entry of this name", "fix: rename one"),
    (("foreign", "lenet.svm"), {}, "foreign.lenet.svm", "letters, digits, '_' and '-'"),
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


def test_students_are_members_after_the_models(tmp_path):
    tree = copy.deepcopy(SMOKE)
    tree["students"] = {"pupil": {"net": "mlp", "pseudo": {"teacher": ["logistic"]}}}
    tree["stackers"] = {"svm": {"kind": "svm", "models": ["pupil"]}}
    params = load_params(write(tmp_path, tree))
    assert member_names(params.networks, params.stackers) == ["lenet", "logistic", "pupil", "pupil.svm"]
    assert params.students["pupil"].epochs == SMOKE["defaults"]["epochs"]
    assert params.students["pupil"].pseudo.fraction == 0.33


def test_without_the_section_there_are_no_students(tmp_path):
    assert load_params(write(tmp_path, SMOKE)).students == {}


def test_foreign_members_come_last_and_hold_probabilities_unless_said_otherwise(tmp_path):
    params = load_params(changed(tmp_path, ("foreign",), {"b": {}, "a": {"kind": "votes"}}))
    assert member_names({"net": None}, {}, ["b", "a"]) == ["net", "b", "a"]
    assert {name: entry.kind for name, entry in params.foreign.items()} == {"a": "votes", "b": "probabilities"}


@pytest.mark.parametrize(("teacher", "expected"), [("all", ["lenet", "logistic"]), (["logistic"], ["logistic"]),
                                                   (["logistic", "lenet", "logistic"], ["lenet", "logistic"])])
def test_teachers_are_named_once_in_one_order(tmp_path, teacher, expected):
    student = {"net": "mlp", "pseudo": {"teacher": teacher}}
    params = load_params(changed(tmp_path, ("students",), {"pupil": student}))
    assert teacher_names(params.students["pupil"], params.models) == expected
    assert teacher_names(params.models["lenet"], params.models) == []
