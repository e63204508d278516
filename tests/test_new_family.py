"""A new family of nets, added by doing what README.md says under "Adding a family", and nothing else."""

import re
from pathlib import Path

import pandas as pd
import pytest
from ruamel.yaml import YAML
from sklearn.datasets import load_digits
from workspace import Workspace, make_workspace

from pipeline.closure import ROOT

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
OTHER, FOLDS = "logistic", 3            # of presets/smoke.yaml


def section() -> list[tuple[str, str]]:
    """Language and text of the code blocks under the heading, in order."""
    _, heading, rest = (ROOT / "README.md").read_text().partition("\n## Adding a family\n")
    assert heading, "README.md has no section 'Adding a family'"
    return BLOCK.findall(rest.partition("\n## ")[0])


def named_file(block: str) -> str:
    """The path in a block's first line, `# pipeline/nets/x.py ...`."""
    return block.split()[1].rstrip(",")


def follow(workspace: Workspace) -> str:
    """Adds the file, the registry's line and the entry in params.yaml; returns the model's name."""
    (_, file), (_, line), (_, entry) = section()
    (workspace.root / named_file(file)).write_text(file.partition("\n")[2])
    registry = workspace.root / named_file(line)
    lines = registry.read_text().splitlines()
    [opening] = [number for number, text in enumerate(lines) if text.startswith("FAMILIES = {")]
    lines.insert(opening + 1, line.splitlines()[1])
    registry.write_text("\n".join(lines) + "\n")
    models = YAML(typ="safe").load(entry)["models"]
    params = workspace.params()
    params["models"] |= models
    workspace.write_params(params)
    [name] = models
    return name


def when_trained(root: Path) -> dict[Path, int]:
    """When each finished network in the scratch store was written."""
    return {path: path.stat().st_mtime_ns for path in (root / ".scratch").rglob("fold.safetensors")}


def test_the_section_is_a_short_file_one_line_and_one_entry() -> None:
    (first, file), (second, line), (third, _) = section()
    assert (first, second, third) == ("python", "python", "yaml")
    assert len([text for text in file.splitlines()[1:] if text.strip()]) <= 12
    assert len(line.splitlines()) == 2                                # where it goes, and the line


@pytest.mark.slow
def test_a_family_that_follows_the_readme_is_trained_and_no_other_model_is(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    params = workspace.params()
    params["models"] = {OTHER: params["models"][OTHER]}
    workspace.write_params(params)
    first = workspace.repro("predict")
    assert first.code == 0, first.output
    trained = when_trained(tmp_path)
    assert len(trained) == FOLDS

    name = follow(workspace)
    run = workspace.repro("predict")
    assert run.code == 0, run.output
    assert run.stages == ["check", f"train@{name}", f"predict@{name}"]
    now = when_trained(tmp_path)
    assert {path: now[path] for path in trained} == trained
    assert len(now) == 2 * FOLDS

    for part in ("oof", "test"):                                      # 1437 and 360 rows; chance is 0.1
        member = pd.read_parquet(tmp_path / f"oof/{name}/{part}.parquet")
        truth = load_digits().target[member["id"].str.removeprefix("digit_").astype(int)]
        assert (member[[str(d) for d in range(10)]].to_numpy().argmax(axis=1) == truth).mean() > 0.8
