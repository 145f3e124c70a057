"""Whole runs on a few scenes: what they leave, stopping and going on, and losses that explode."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import vision_tasks as vt
from vision_tasks.config import Config
from vision_tasks.metrics.coco_results import write_results
from vision_tasks.training import callbacks, run
from vision_tasks.training.evaluation import evaluate
from vision_tasks.training.report import report

pytestmark = pytest.mark.slow
Recipe = Callable[..., Config]


def weights(path: Path) -> dict[str, torch.Tensor]:
    state = torch.load(path, weights_only=True)["state_dict"]
    return {k: v for k, v in state.items() if v.is_floating_point()}


def logged(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_run_folder_is_complete_and_ap_is_pycocotools(recipe: Recipe, scenes: Path, tmp_path: Path) -> None:
    config = recipe("train.epochs=2", "train.average=0.9", "run.name=a run")
    done = run.fit(config)
    page = report(done, config)
    names = {p.name for p in done.folder.iterdir()}
    assert {"config.yaml", "best.ckpt", "last.ckpt", "metrics.csv", "curves.png", "samples", "index.html"} <= names
    assert {"environment.txt", "command.txt"} <= names
    assert page == done.folder / "index.html"
    assert len(list((done.folder / "samples").glob("*.jpg"))) == 1

    rows = logged(done.folder)
    assert [int(r["step"]) for r in rows if r["loss"]] == list(range(1, 9))
    assert sum(1 for r in rows if r["AP"]) == 2

    best = torch.load(done.best, weights_only=True)
    assert "optimizer_states" not in best
    assert set(best["vision_tasks"]) == {"schema", "builder", "arguments", "categories", "kinds", "preprocess"}
    last = torch.load(done.last, weights_only=True)
    assert last["optimizer_states"]

    evaluation = evaluate(vt.load(done.best), config.data, settings=config.train)
    write_results(tmp_path / "results.json", evaluation.results["bbox"])
    truth = COCO(str(scenes / "annotations" / "instances_val.json"))
    reference = COCOeval(truth, truth.loadRes(str(tmp_path / "results.json")), "bbox")
    reference.evaluate()
    reference.accumulate()
    reference.summarize()
    assert len(json.loads((tmp_path / "results.json").read_text())) > 50
    assert list(evaluation.summaries["bbox"].numbers.values()) == pytest.approx(list(reference.stats), abs=1e-9)


def test_batch_norm_counts_every_step_and_no_evaluation(recipe: Recipe) -> None:
    """Models come ready to predict; training must put them in training mode, also after an evaluation."""
    done = run.fit(recipe("train.epochs=2"))
    state = torch.load(done.last, weights_only=True)["state_dict"]
    counts = {int(v) for k, v in state.items() if k.endswith("num_batches_tracked")}
    assert counts == {8}


@pytest.mark.parametrize("stop_after", [2, 4, 5])
def test_interrupted_and_resumed_is_uninterrupted(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch, stop_after: int
) -> None:
    """Same weights at the end, to the bit: in the middle of an epoch and at its end."""
    options = ("train.epochs=2", "train.average=0.9", "data.augment=strong", "data.min_sizes=[56,64]")
    straight = run.fit(recipe(*options, "run.name=straight"))

    def ask(self: callbacks.PoliteInterrupt, trainer: object, module: object, batch: object, index: int) -> None:
        if trainer.global_step == stop_after:  # type: ignore[attr-defined]
            self.asked = True
        self._stop_if_asked(trainer)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.PoliteInterrupt, "on_train_batch_start", ask)
        broken = run.fit(recipe(*options, "run.name=broken"))
    assert broken.interrupted
    assert torch.load(broken.last, weights_only=True)["global_step"] == stop_after
    resumed = run.fit(recipe(*options, "run.name=broken"), resume=broken.last)
    assert not resumed.interrupted

    expected, found = weights(straight.last), weights(resumed.last)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name
    steps = [int(r["step"]) for r in logged(resumed.folder) if r["loss"]]
    assert steps == list(range(1, 9)), "the log goes on, without gaps or repetitions"


def test_non_finite_loss_names_images_and_writes_no_checkpoint(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    from vision_tasks.training.module import TrainingModule

    original = TrainingModule.training_step
    seen: list[list[int]] = []

    def poisoned(self: TrainingModule, raw: object, index: int) -> object:
        out = original(self, raw, index)  # type: ignore[arg-type]
        seen.append(raw.image_ids)  # type: ignore[attr-defined]
        if len(seen) == 4:  # the last step of the first epoch: the flag is still unread when it ends
            out["loss"] = out["loss"] * float("nan")
        return out

    monkeypatch.setattr(TrainingModule, "training_step", poisoned)
    config = recipe("train.epochs=2", "run.name=nan")
    with pytest.raises(vt.VisionTasksError) as caught:
        run.fit(config)
    folder = config.run.folder / "nan"
    assert str(seen[3]) in str(caught.value)
    assert "step 4" in str(caught.value)
    assert not (folder / "last.ckpt").exists()
    assert not (folder / "best.ckpt").exists()
    saved = torch.load(folder / "nonfinite-batch.pt", weights_only=True)
    assert saved["image_ids"] == seen[3]
    assert len(saved["images"]) == len(seen[3])


def test_early_stop_and_multistep_options_run(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """AP that never improves ends the run after `patience` evaluations; bf16, accumulation and clipping run."""
    monkeypatch.setattr(callbacks.Checkpoints, "best", 2.0, raising=False)
    original = callbacks.Checkpoints.__init__

    def hopeless(self: callbacks.Checkpoints, *args: object) -> None:
        original(self, *args)  # type: ignore[arg-type]
        self.best = 2.0

    monkeypatch.setattr(callbacks.Checkpoints, "__init__", hopeless)
    options = ("train.epochs=9", "train.patience=2", "train.precision=bf16", "train.accumulate=2", "train.clip=1")
    done = run.fit(recipe(*options, "train.optimizer.name=adamw", "train.optimizer.rate=1e-3"))
    assert torch.load(done.last, weights_only=True)["epoch"] == 1


@pytest.mark.parametrize(
    ("option", "said"), [("data.augment=[HorizontalFlop]", "HorizontalFlip"), ("train.device=cuda:77", "cuda:77")]
)
def test_slips_are_said_before_data_are_read(
    option: str, said: str, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "read_splits", lambda *_: pytest.fail("the data are read"))
    with pytest.raises(vt.VisionTasksError, match=said):
        run.fit(recipe(option))


def test_a_named_run_is_not_overwritten(recipe: Recipe) -> None:
    run.fit(recipe("train.epochs=1", "train.max_steps=1", "run.name=once"))
    with pytest.raises(vt.VisionTasksError, match="already holds a run"):
        run.fit(recipe("train.epochs=1", "run.name=once"))


def test_without_validation_data_best_is_the_last(recipe: Recipe, scenes: Path) -> None:
    train = scenes / "annotations" / "instances_train.json"
    config = recipe("train.epochs=1", f"data={train}", "run.name=no-val")
    done = run.fit(config)
    assert done.score is None
    assert done.best is not None
    assert report(done, config) == done.folder / "index.html"
    assert len(vt.load(done.best).categories) == 5


def test_resume_refuses_what_does_not_fit_and_leaves_the_recipe(recipe: Recipe) -> None:
    done = run.fit(recipe("train.epochs=1", "run.name=r"))
    written = (done.folder / "config.yaml").read_text()
    for overrides, match in (
        (("model.hidden=16",), r"model\.hidden is 16"),
        (("train.average=0.9",), r"another train\.average"),
    ):
        with pytest.raises(vt.VisionTasksError, match=match):
            run.fit(recipe("train.epochs=2", "run.name=r", *overrides), resume=done.last)
    with pytest.raises(vt.VisionTasksError, match="holds no optimiser"):
        run.fit(recipe("train.epochs=2", "run.name=r"), resume=done.best)
    assert (done.folder / "config.yaml").read_text() == written


@pytest.mark.parametrize("shift", ["swapped", "beyond"])
def test_validation_may_number_its_categories_differently(
    recipe: Recipe, scenes: Path, tmp_path: Path, shift: str
) -> None:
    """The same data under other category ids gives the same AP, in training and in `evaluate`."""
    content = json.loads((scenes / "annotations" / "instances_val.json").read_text())
    new = {c["id"]: (6 - c["id"] if shift == "swapped" else c["id"] + 50) for c in content["categories"]}
    for entry in content["categories"]:
        entry["id"] = new[entry["id"]]
    for entry in content["annotations"]:
        entry["category_id"] = new[entry["category_id"]]
    other = tmp_path / "other.json"
    other.write_text(json.dumps(content))
    options = ("train.epochs=6", "train.evaluate_every=6", "train.optimizer.name=adamw", "train.optimizer.rate=0.003")
    plain = run.fit(recipe(*options, "run.name=plain"))
    config = recipe(
        *options, "run.name=other", f"data.train.annotations={scenes}/annotations/instances_train.json",
        f"data.train.images={scenes}/images/train", f"data.val.annotations={other}",
        f"data.val.images={scenes}/images/val",
    )  # fmt: skip
    renumbered = run.fit(config)
    assert plain.summaries["bbox"].numbers["AR100"] > 0.01, "nothing was found, so the comparison says nothing"
    assert renumbered.summaries["bbox"].numbers == plain.summaries["bbox"].numbers
    model = vt.load(renumbered.best)
    ids = model.categories.ids
    # The mean over categories sums them in the file's order: another last bit.
    same = pytest.approx(plain.summaries["bbox"].numbers, rel=1e-12, abs=0)
    assert evaluate(model, config.data, settings=config.train).summaries["bbox"].numbers == same
    assert model.categories.ids == ids


def test_interrupt_waits_for_whole_steps(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked inside an accumulation, the run stops at its end, and resumes to the same weights."""
    options = ("train.epochs=2", "train.accumulate=2")
    straight = run.fit(recipe(*options, "run.name=straight"))
    original = callbacks.PoliteInterrupt.on_train_batch_start

    def ask(self: callbacks.PoliteInterrupt, trainer: object, module: object, batch: object, index: int) -> None:
        if index == 1:
            self.asked = True
        original(self, trainer, module, batch, index)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.PoliteInterrupt, "on_train_batch_start", ask)
        broken = run.fit(recipe(*options, "run.name=broken"))
    assert torch.load(broken.last, weights_only=True)["global_step"] == 1
    resumed = run.fit(recipe(*options, "run.name=broken"), resume=broken.last)
    found = weights(resumed.last)
    for name, value in weights(straight.last).items():
        assert torch.equal(value, found[name]), name
