"""A copy of the project in a temporary directory, where tests run the real `dvc repro`."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.closure import ROOT

KEPT = ("pipeline", ".dvc/config", ".dvc/plots", ".dvcignore", ".gitignore", "dvc.yaml", "presets", "data/digits",
        "pretrained", "pyproject.toml")


@dataclass(frozen=True)
class Run:
    """What one command did."""

    code: int
    output: str

    @property
    def stages(self) -> list[str]:
        """Stages that ran, in order."""
        return re.findall(r"Running stage '([^']+)'", self.output)


@dataclass(frozen=True)
class Workspace:
    """A fresh project with its own git and DVC, no finished stage and no cache."""

    root: Path

    def run(self, *command: str) -> Run:
        """Runs a command with this copy of the package; both streams in the output."""
        done = subprocess.run(command, cwd=self.root, env=environment(), capture_output=True, text=True, check=False)
        return Run(done.returncode, done.stdout + done.stderr)

    def repro(self, *options: str) -> Run:
        """`dvc repro`."""
        return self.run(sys.executable, "-m", "dvc", "repro", *options)

    def pipeline(self, *arguments: str) -> Run:
        """`python -m pipeline`."""
        return self.run(sys.executable, "-m", "pipeline", *arguments)

    def params(self) -> dict[str, Any]:
        """params.yaml as a tree."""
        return YAML(typ="safe").load((self.root / "params.yaml").read_text())

    def write_params(self, tree: dict[str, Any]) -> None:
        """Replaces params.yaml, keeping the order of the keys."""
        with (self.root / "params.yaml").open("w") as handle:
            YAML().dump(tree, handle)


def make_workspace(root: Path, preset: str = "smoke") -> Workspace:
    """A workspace in `root` with a preset as its params.yaml."""
    for name in KEPT:
        source, target = ROOT / name, root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)
    shutil.copyfile(ROOT / "presets" / f"{preset}.yaml", root / "params.yaml")
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    for command in (("init", "-q"), ("add", "-A"), ("commit", "-qm", "start")):
        subprocess.run(("git", *identity, *command), cwd=root, check=True)
    return Workspace(root)


def environment() -> dict[str, str]:
    """This process's environment with the interpreter's own directory first: dvc.yaml says `python`."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, "PATH": path, "PYTHONPATH": "", "COLUMNS": "200"}
