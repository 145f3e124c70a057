"""The table of models: its figures against torchvision's, YOLOX's, and a fresh count."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torchvision
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import get_model_weights
from torchvision.models import list_models as list_torchvision

from vision_tasks.models.catalogue import Row, catalogue, summary
from vision_tasks.models.registry import MODELS, list_models
from vision_tasks.weights import published


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    """tools/models_table.py, which is no part of the package."""
    path = Path(__file__).parents[2] / "tools" / "models_table.py"
    spec = importlib.util.spec_from_file_location("models_table", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MEASURED = [row for row in catalogue() if row.parameters is not None]


def test_every_model_and_every_published_file_has_a_row() -> None:
    rows = catalogue()
    assert {row.model for row in rows} == set(list_models())
    urls = [row.weights.url for row in rows if row.weights is not None]
    files = (*published.MODELS.values(), *published.DARKNET.values())
    assert sorted(urls) == sorted(file.url for file in files)
    assert all(summary(name) for name in list_models())


def test_a_model_of_somebody_else_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "mine", lambda categories: None)
    assert Row("mine") in catalogue()


def ident(row: Row) -> str:
    return " ".join([row.model, *map(str, row.options.values())])


# The first of each model; the others are slow.
FIRST = {id(row) for row in {row.model: row for row in reversed(MEASURED)}.values()}


@pytest.mark.parametrize(
    "row",
    [pytest.param(r, id=ident(r), marks=[] if id(r) in FIRST else [pytest.mark.slow]) for r in MEASURED],
)
def test_parameters_are_those_of_the_model_that_is_built(row: Row, tool: ModuleType) -> None:
    counts = {}
    for norm in ("batch", "frozen"):
        with torch.device("meta"):
            network = tool.build(row.model, row.options, row.weights is not None, norm=norm)
        counts[norm] = sum(p.numel() for p in network.parameters())
    assert row.parameters == counts["batch"]
    if row.weights is not None and row.weights.publisher == "torchvision":
        stated = {
            weights.url: weights.meta["num_params"]
            for module in (torchvision.models.detection, torchvision.models.segmentation)
            for twin in list_torchvision(module)
            for weights in get_model_weights(twin)
        }
        assert stated[row.weights.url] in counts.values()  # torchvision counts some with frozen norms


# Million parameters and GFLOPs (a multiply-add counted as two) from the tables in YOLOX's README.
YOLOX = {"nano": (0.91, 1.08), "tiny": (5.06, 6.45), "s": (9.0, 26.8), "m": (25.3, 73.8), "l": (54.2, 155.6)}
YOLOX["x"] = (99.1, 281.9)


def test_yolox_figures_are_the_publishers() -> None:
    rows = {row.options["variant"]: row for row in MEASURED if row.model == "yolox"}
    assert rows.keys() == YOLOX.keys()
    for variant, (parameters, gflops) in YOLOX.items():
        assert rows[variant].parameters == pytest.approx(parameters * 1e6, rel=0.01)
        assert rows[variant].gflops == pytest.approx(gflops / 2, rel=0.05)  # theirs count norms, too


def test_gflops_are_torchvisions_where_the_input_is_the_same() -> None:
    rows = {row.model: row for row in MEASURED if row.weights is not None}
    for model, twin in (("ssd", "ssd300_vgg16"), ("ssdlite", "ssdlite320_mobilenet_v3_large")):
        (weights,) = get_model_weights(twin)
        assert rows[model].gflops == pytest.approx(weights.meta["_ops"], abs=0.005)


@pytest.mark.slow
def test_semantic_figures_are_torchvisions(tool: ModuleType) -> None:
    """Its multiply-adds, too, which are of a square of 520 pixels and count the auxiliary decoder."""
    rows = [row for row in MEASURED if row.weights is not None and row.task == "semantic"]
    assert len(rows) == 6
    for row in rows:
        twin = f"{row.model}_{row.options['backbone']}"
        (weights,) = get_model_weights(twin)
        assert row.weights is not None
        assert (row.weights.url, row.parameters) == (weights.url, weights.meta["num_params"])
        assert row.weights.miou == weights.meta["_metrics"]["COCO-val2017-VOC-labels"]["miou"]
        assert row.options["min_size"] == weights.transforms().resize_size[0]
        with torch.device("meta"):
            network = tool.build(row.model, row.options, True).eval()
            image = torch.zeros(1, 3, 520, 520)
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                features, head = network.features(image), network.heads["semantic"]
                for decoder in filter(None, (head.decoder, head.auxiliary)):
                    decoder(features, (520, 520))
        assert counter.get_total_flops() / 2e9 == pytest.approx(weights.meta["_ops"], abs=0.001)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["lraspp", "ssdlite", "yolox"])
def test_gflops_are_measured_again(model: str, tool: ModuleType) -> None:
    row = min((row for row in MEASURED if row.model == model), key=lambda row: row.gflops or 0)
    figures = tool.measure(row.model, row.options, row.weights is not None)
    assert figures["gflops"] == row.gflops
    assert tuple(figures["size"]) == row.size
    assert figures["task"] == row.task
