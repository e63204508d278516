"""A file of the package imports only from floors below its own (or from its own package, on floors 2 to 4)."""

import ast

import pytest

from pipeline.closure import PACKAGE, ROOT

FLOORS = {
    "config": 0, "artefacts": 0, "closure": 0, "errors": 0, "members": 0, "metrics": 0, "params_text": 0, "rng": 0,
    "cells": 1, "ensemble": 1, "folds": 1, "foreign": 1, "submission": 1,
    "augment": 2, "data": 2, "nets": 2, "plots": 2, "stackers": 2,
    "training": 3,
    "stages": 4,
    "catalogue": 5, "cli": 5, "importing": 5, "leaks": 5, "lr_find": 5, "lr_range": 5, "repro": 5, "show": 5,
    "show_labels": 5, "show_members": 5, "tables": 5, "__main__": 5, "__init__": 0,
}
HEAVY = {0: {"torch", "cv2", "sklearn", "lightgbm", "albumentations"},
         1: {"torch", "cv2", "lightgbm", "albumentations"}}
FILES = sorted((ROOT / PACKAGE).rglob("*.py"))


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def imports(path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names += [f"{node.module}.{a.name}" if node.module == PACKAGE else node.module for a in node.names]
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down(path):
    own = path.relative_to(ROOT / PACKAGE).parts[0].removesuffix(".py")
    floor = FLOORS[own]
    for name in imports(path):
        top = name.split(".")[0]
        assert top not in HEAVY.get(floor, set()), f"floor {floor} imports {name}"
        if top == PACKAGE and room(name) not in ("__init__", own):
            other = FLOORS[room(name)]
            same_floor_allowed = floor in (0, 1, 5)             # files beside each other, not packages
            assert other < floor or (same_floor_allowed and other == floor), \
                f"{path.name} (floor {floor}) imports {name} (floor {other})"


def test_package_inits_hold_no_code():
    for path in (ROOT / PACKAGE).rglob("__init__.py"):
        body = ast.parse(path.read_text()).body
        assert all(isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant) for n in body), path
