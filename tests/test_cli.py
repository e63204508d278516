"""The command line: a user's mistake is one clear line, exit code 2, and nothing half-written."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from competition import png, two_classes, write_folders
from ruamel.yaml import YAML

from pipeline import cli
from pipeline.closure import ROOT


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project with the smoke preset over a small folder competition in data/raw."""
    monkeypatch.chdir(tmp_path)
    tree = YAML(typ="safe").load((ROOT / "presets/smoke.yaml").read_text())
    tree["data"] = {"source": "folder", "path": "data/raw"}
    return tree


def write(tree) -> None:
    with Path("params.yaml").open("w") as handle:
        YAML(typ="safe").dump(tree, handle)


def run(capsys, monkeypatch, *arguments: str) -> tuple[int, list[str]]:
    """Exit code and the lines on stderr of one command in this process."""
    monkeypatch.setattr(sys, "argv", ["pipeline", *arguments])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0), capsys.readouterr().err.splitlines()


def refused(capsys, monkeypatch, *arguments: str) -> str:
    """The one line with which a command was refused."""
    code, lines = run(capsys, monkeypatch, *arguments)
    assert code == 2
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0]


def files(**changes: bytes | None) -> dict[str, bytes]:
    """The two-class competition with some files changed or (None) left out."""
    return {name: data for name, data in {**two_classes(), **changes}.items() if data is not None}


BAD_DATA = {
    "missing folder": (None, {}, "there is no folder 'data/raw'; fix: create it with"),
    "broken image": (files(**{"train/cat/1.png": b"not an image"}), {}, "data/raw/train/cat/1.png"),
    "empty file": (files(**{"train/cat/1.png": b""}), {}, "data/raw/train/cat/1.png"),
    "duplicated ids": (files(**{"train/dog/1.png": png(np.zeros((4, 4), np.uint8))}), {}, "duplicated id"),
    "class in test only": (files(**{"test/cta/99.png": png(np.zeros((4, 4), np.uint8))}), {}, "did you mean 'cat'?"),
    "missing sample": (files(), {"sample_submission": "sample.csv"}, "sample.csv"),
    "sample of other ids": (files(**{"sample.csv": b"id,cat,dog\n10,0,1\n11,0,1\n99,0,1\n"}),
                            {"sample_submission": "sample.csv"}, "sample.csv"),
    "sample of other classes": (files(**{"sample.csv": b"id,cat,frog\n10,0,1\n11,0,1\n12,0,1\n"}),
                                {"sample_submission": "sample.csv"}, "'frog'"),
}


@pytest.mark.parametrize("name", BAD_DATA)
def test_bad_data(project, capsys, monkeypatch, name):
    layout, changes, said = BAD_DATA[name]
    if layout is not None:
        write_folders(Path("data/raw"), layout)
    project["data"].update(changes)
    write(project)
    code, lines = run(capsys, monkeypatch, "prepare")
    assert code == 2
    assert any(said in line for line in lines), lines
    assert all(line.startswith("error: ") for line in lines)
    assert not Path("data/packed").exists()
    assert not list(Path("data").glob(".packed*"))


def test_nets_lists_costs_and_says_why_a_net_does_not_take_a_canvas(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["pipeline", "nets", "--canvas", "16", "--channels", "3", "--json"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert not caught.value.code
    rows = {row["net"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["logistic_regression"]["parameters"] == 3 * 16 * 16 * 10 + 10
    assert rows["logistic_regression"]["flops"] == 2 * 3 * 16 * 16 * 10
    assert rows["resnet18"]["options"] == ["width", "dropout", "stem", "stem_stride", "pool", "stochastic_depth"]
    assert rows["vgg19"]["refused"] == "net 'vgg19': canvas 16 is too small; fix: canvas: 32 or more"


def test_empty_class(project, capsys, monkeypatch):
    write_folders(Path("data/raw"), files())
    Path("data/raw/train/frog").mkdir()
    write(project)
    assert "frog" in refused(capsys, monkeypatch, "prepare")
    assert not Path("data/packed").exists()


def test_fewer_rows_than_folds(project, capsys, monkeypatch):
    write_folders(Path("data/raw"), files())
    project["folds"]["k"] = 7
    write(project)
    monkeypatch.setattr(sys, "argv", ["pipeline", "prepare"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert not caught.value.code
    capsys.readouterr()
    line = refused(capsys, monkeypatch, "folds")
    assert "6" in line
    assert "7" in line
    assert not Path("folds").exists()


@pytest.mark.parametrize(("arguments", "said"), [
    (("train", "lenett"), "no model 'lenett'; allowed: 'lenet', 'logistic'; did you mean 'lenet'?"),
    (("predict", "lenett"), "did you mean 'lenet'?"),
    (("stack", "lenett", "svm"), "did you mean 'lenet'?"),
    (("stack", "lenet", "smv"), "no stacker 'smv'; allowed: 'svm'; did you mean 'svm'?"),
    (("train", "lenet"), "data/packed"),
    (("check",), "data.path: there is no folder 'data/raw'; fix: put the competition there"),
    (("folds",), "data/packed"),
    (("ensemble",), "data/packed"),
    (("leaderboard",), "reports/ensemble.json is missing; fix: dvc repro"),
    (("loo",), "reports/ensemble.json is missing; fix: dvc repro"),
    (("diversity",), "reports/diversity.csv is missing; fix: dvc repro"),
])
def test_commands_without_what_they_need(project, capsys, monkeypatch, arguments, said):
    write(project)
    assert said in refused(capsys, monkeypatch, *arguments)


def test_missing_params(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "cp presets/digits.yaml params.yaml" in refused(capsys, monkeypatch, "check")


def test_several_mistakes_are_a_line_each(project, capsys, monkeypatch):
    project["ensemble"]["metric"] = "f1"
    project["models"]["lenet"]["net"] = "lenet6"
    write(project)
    code, lines = run(capsys, monkeypatch, "check")
    assert code == 2
    assert lines[0].startswith("error: params.yaml: ensemble.metric: unknown value 'f1'")
    assert not Path("plan").exists()


def test_help_imports_nothing_heavy():
    code = "import sys; sys.argv = ['pipeline', '--help']\n" \
           "from pipeline import cli\n" \
           "try: cli.main()\nexcept SystemExit: pass\n" \
           "print(sorted({'torch', 'numpy', 'pandas', 'sklearn', 'dvc'} & set(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert output.splitlines()[-1] == "[]"


def test_tiny_images_pack(project, capsys, monkeypatch):
    write_folders(Path("data/raw"), files(**{"train/cat/77.png": png(np.zeros((1, 1), np.uint8))}))
    write(project)
    code, lines = run(capsys, monkeypatch, "prepare")
    assert (code, lines) == (0, [])
