"""One thread per process, before anything imports numpy or torch: tests run in two processes on two cores."""

import os

import pytest

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

# Minutes each: they come first, so that no process waits for the other's last file.
LONGEST = ("test_repro.py", "test_students_repro.py", "test_foreign_repro.py", "test_new_family.py", "test_zoo_run.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, in their order; all others as they were."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONGEST)))
