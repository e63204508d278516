"""The arithmetic of benchmarks/gpu.py, and that every net of its list takes the canvas."""

from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from pipeline.nets.cost import cost


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    return import_module("gpu")


def test_the_projection_adds_up_training_prediction_and_what_lies_beside(gpu: ModuleType) -> None:
    """Of net a: 30 x 30,336 x 4 images at 7584 x 2 per second, 16 x 30,336 views at 4044.8 x 2, 5 folds of 12 s."""
    row = {"training": {"median": 7584.0}, "predicted_views": {"median": 4044.8}, "seconds_beside_epochs": 12.0}
    faster = {**row, "training": {"median": 15168.0}}
    beside = {"a": {1: {"images_per_second": 100.0}, 2: {"images_per_second": 200.0}, 4: {"images_per_second": 150.0}},
              "c": {1: {"images_per_second": 100.0}, 2: {"images_per_second": 300.0}}}
    found = gpu.projected({"nets": {"a": row, "b": faster}, "side_by_side": beside})
    assert found["minutes"] == {
        "a": {"training": 4.0, "prediction": 1.0, "beside": 1.0, "gain_side_by_side": 2.0},
        "b": {"training": 2.0, "prediction": 1.0, "beside": 1.0, "gain_side_by_side": 2.0},     # the least of all
    }
    assert found["minutes_in_all"] == 10.0


def test_every_net_of_the_list_takes_the_canvas_and_they_differ(gpu: ModuleType) -> None:
    costs = {cost(net["net"], options=net.get("options", {}), n_classes=gpu.CLASSES, channels=1, canvas=gpu.FULL.canvas)
             for net in gpu.NETS.values()}
    assert len(costs) == len(gpu.NETS) == 10
    assert all(flops > 5e8 for _, flops in costs)
    assert set(gpu.FULL.abreast) <= set(gpu.NETS)
