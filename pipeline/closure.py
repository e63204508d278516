"""The import closure of a module, read from the source: what a stage's result depends on.

DVC does not follow imports. `dvc.yaml` lists each stage's closure by hand (a test compares), `check` digests the
closure of each net and stacker, and the scratch store is keyed by the closure of the training code.
"""

import ast
from pathlib import Path

from pipeline.artefacts import digest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "pipeline"


def import_closure(*modules: str) -> list[Path]:
    """Source files that the modules need, themselves and packages' `__init__.py` included; sorted, relative to ROOT.

    Imports inside functions count; names in strings (the lazy registries) do not, and that is their purpose.
    Raises FileNotFoundError for a module that has no file.
    """
    found: set[Path] = set()
    waiting = list(modules)
    while waiting:
        path = _file(waiting.pop())
        if path in found:
            continue
        found.add(path)
        waiting += _imports(path)
    return sorted(path.relative_to(ROOT) for path in found)


def closure_digest(*modules: str) -> str:
    """Digest of the names and bytes of `import_closure(*modules)`."""
    return digest(*[part for path in import_closure(*modules) for part in (str(path), (ROOT / path).read_bytes())])


def _imports(path: Path) -> list[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names if _exists(f"{base}.{alias.name}")}
    ours = {name for name in names if name.split(".")[0] == PACKAGE}
    packages = {".".join(name.split(".")[:i]) for name in ours for i in range(1, name.count(".") + 1)}
    return sorted(ours | packages)


def _exists(module: str) -> bool:
    return module.split(".")[0] == PACKAGE and (_module(module).exists() or _package(module).exists())


def _file(module: str) -> Path:
    path = _module(module)
    return path if path.exists() else _package(module)


def _module(module: str) -> Path:
    return ROOT / Path(*module.split(".")).with_suffix(".py")


def _package(module: str) -> Path:
    return ROOT / Path(*module.split(".")) / "__init__.py"
