"""dvc.yaml's deps are the import closures of the stages, no less and no more."""

import copy
import json
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.closure import ROOT, closure_digest, import_closure
from pipeline.data.pack import SOURCES
from pipeline.nets.families import NETS, PREFIXES

STAGES = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
LAZY = {"prepare": [target.split(":")[0] for target in SOURCES.values()]}     # chosen by name at run time, all of them
MODULES = {name: name.removesuffix("_student") for name in STAGES}             # students share the models' commands
WHOLE = {"check": ("pipeline/nets", "pipeline/stackers")}                     # whose digests it writes


def stage(name):
    return STAGES[name].get("do", STAGES[name])


def code_deps(name) -> set[str]:
    files = set()
    for dep in stage(name)["deps"]:
        if dep.startswith("pipeline/") and dep not in WHOLE.get(name, ()):
            path = ROOT / dep
            assert path.exists(), f"{name}: {dep} does not exist"
            files |= {str(f.relative_to(ROOT)) for f in path.rglob("*.py")} if path.is_dir() else {dep}
    return files


@pytest.mark.parametrize("name", STAGES)
def test_deps_are_the_closure(name):
    expected = {str(p) for p in import_closure(f"pipeline.stages.{MODULES[name]}", *LAZY.get(name, []))}
    for directory in WHOLE.get(name, ()):
        expected = {p for p in expected if not p.startswith(directory + "/")}
    found = code_deps(name)
    assert found == expected, f"{name}: add {sorted(expected - found)}, remove {sorted(found - expected)}"


@pytest.mark.parametrize("name", STAGES)
def test_command_runs_the_stage_from_the_working_directory(name):
    assert stage(name)["cmd"].split()[:4] == ["python", "-m", "pipeline", MODULES[name]]


def test_no_stage_persists_and_only_prepare_reads_raw_data():
    for name in STAGES:
        assert "persist" not in str(stage(name)), name
        assert ("${data.path}" in stage(name)["deps"]) == (name == "prepare")


def test_training_does_not_depend_on_any_family_of_nets():
    families = {target.split(":")[0].replace(".", "/") + ".py" for target in [*NETS.values(), *PREFIXES.values()]}
    assert not families & code_deps("train")
    assert "pipeline/nets/families.py" not in code_deps("train") | code_deps("predict")
    assert "plan/models/${key}.json" in stage("train")["deps"]


@pytest.mark.parametrize("name", ["train", "predict", "stack"])
def test_students_have_the_stages_of_models(name):
    """Another section of params.yaml, the targets to learn from, and no teaching; all else is the same."""
    model, student = copy.deepcopy(STAGES[name]), copy.deepcopy(STAGES[f"{name}_student"])
    if name == "train":
        student["do"]["deps"].remove("pseudo/${key}")
    if name == "predict":
        model["do"]["outs"].remove("teachers/${key}")
    for entry in (model, student):
        entry.get("do", entry).pop("desc")
    text = json.dumps(student).replace("${students}", "${models}").replace("students.$", "models.$")
    assert json.loads(text) == model


def test_a_student_waits_for_every_teacher_and_depends_on_its_own_targets_alone():
    assert "teachers" in stage("teach")["deps"]
    assert stage("teach")["outs"] == ["pseudo/${key}"]
    assert "pseudo/${key}" in stage("train_student")["deps"]
    assert not any(str(dep).startswith("teachers") for dep in stage("train_student")["deps"])


def test_a_net_s_digest_covers_its_own_file_and_no_other_family():
    densenet = {str(p) for p in import_closure("pipeline.nets.densenet")}
    assert {"pipeline/nets/densenet.py", "pipeline/nets/net.py"} <= densenet
    assert "pipeline/nets/resnet.py" not in densenet
    assert closure_digest("pipeline.nets.densenet") != closure_digest("pipeline.nets.resnet")


def test_closure_follows_imports_inside_functions(tmp_path, monkeypatch):
    package = tmp_path / "pipeline"
    (package / "deep").mkdir(parents=True)
    for name, text in {"__init__.py": "", "a.py": "def f():\n    from pipeline.deep import b\n", "deep/__init__.py": "",
                       "deep/b.py": "import pipeline.c\n", "c.py": "x = 'pipeline.d:lazy'\n", "d.py": ""}.items():
        (package / name).write_text(text)
    monkeypatch.setattr("pipeline.closure.ROOT", tmp_path)
    expected = ["__init__.py", "a.py", "c.py", "deep/__init__.py", "deep/b.py"]
    assert import_closure("pipeline.a") == [Path("pipeline") / name for name in expected]
