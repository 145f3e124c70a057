"""`vision-tasks models`."""

from __future__ import annotations

from vision_tasks.cli.console import say


def run() -> None:
    """Every model, what it is, its options and their defaults; then the backbones."""
    from vision_tasks.backbones.registry import BACKBONES
    from vision_tasks.models.registry import builder, list_models, model_options

    for name in list_models():
        summary = (builder(name).__doc__ or "").strip().splitlines()[0]
        say(f"{name}: {summary}")
        for option, parameter in model_options(name).items():
            say(f"    {option}={parameter.default!r}")
    say(f"backbones: {', '.join(BACKBONES)}")
    say("\nNext:\n  vision-tasks train data=FOLDER model=faster_rcnn model.backbone=mobilenet_v2")
