"""Options of training: how weights move, how long, and what is kept."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from vision_tasks.config.base import Strict, as_text


class OptimizerConfig(Strict):
    """How weights move."""

    name: Annotated[Literal["sgd", "adamw"], Field(description="the rule they move by")] = "sgd"
    rate: Annotated[float, Field(gt=0, description="learning rate after warm-up")] = 0.005
    rate_for: Annotated[
        int | None,
        Field(ge=1, description="images per step that rate is meant for; the rate is scaled to the real number"),
    ] = None
    backbone_factor: Annotated[float, Field(ge=0, description="times the rate for the backbone")] = 1.0
    momentum: Annotated[float, Field(ge=0, lt=1, description="of SGD")] = 0.9
    nesterov: Annotated[bool, Field(description="Nesterov's momentum, of SGD")] = False
    weight_decay: Annotated[float, Field(ge=0, description="pull of weights towards 0")] = 1e-4
    decay_norms_and_biases: Annotated[bool, Field(description="decay those, too")] = False
    schedule: Annotated[
        Literal["constant", "multistep", "cosine", "polynomial"], Field(description="after warm-up")
    ] = "cosine"
    milestones: Annotated[list[float], Field(description="epochs after which multistep multiplies the rate")] = [8, 11]
    gamma: Annotated[float, Field(gt=0, description="what multistep multiplies by")] = 0.1
    power: Annotated[float, Field(gt=0, description="exponent of polynomial; 1 is a straight line")] = 0.9
    final: Annotated[float, Field(ge=0, le=1, description="share of the rate at cosine's or polynomial's end")] = 0.0
    warmup_steps: Annotated[int, Field(ge=0, description="steps of linear rise; at most a tenth of all steps")] = 500


class TrainConfig(Strict):
    """How long, on what, and what to keep."""

    epochs: Annotated[int, Field(ge=1, description="passes over the training images")] = 12
    max_steps: Annotated[int | None, Field(ge=1, description="end after this many steps, whatever epochs says")] = None
    optimizer: OptimizerConfig = OptimizerConfig()
    # 10 leaves a healthy run alone; without it a fine-tune at the default rate can explode in its first fifty steps.
    clip: Annotated[float | None, Field(gt=0, description="largest norm of the gradient; null does not clip")] = 10.0
    accumulate: Annotated[int, Field(ge=1, description="batches per step")] = 1
    precision: Annotated[
        Literal["32", "bf16", "16"], BeforeValidator(as_text), Field(description="bits of the network's arithmetic")
    ] = "32"
    average: Annotated[
        float | None,
        Field(gt=0, lt=1, description="decay of averaged weights (EMA), which are then evaluated and kept"),
    ] = None
    loss_weights: Annotated[
        dict[str, Annotated[float, Field(ge=0)]], Field(description='factors by "head/loss"; 1 if not named')
    ] = {}
    class_weights: Annotated[
        Literal["none", "sqrt", "inverse", "effective"],
        Field(
            description="what categories weigh in class losses, by how often they occur (n): 1/sqrt(n), 1/n, or by the "
            "effective number of samples"
        ),
    ] = "none"
    evaluate_every: Annotated[int, Field(ge=1, description="epochs between evaluations")] = 1
    patience: Annotated[int | None, Field(ge=1, description="end after so many evaluations without a better AP")] = None
    seed: Annotated[int, Field(ge=0, description="of all chance: equal seeds give equal runs")] = 0
    deterministic: Annotated[bool, Field(description="only deterministic kernels, where there are any")] = False
    log_every: Annotated[int, Field(ge=1, description="steps between rows of metrics.csv")] = 10
    device: Annotated[str, Field(description='"auto", "cpu", "cuda" or "mps"')] = "auto"
    devices: Annotated[int | str | list[int], Field(description="how many (or which) devices; as in Lightning")] = 1
    nodes: Annotated[int, Field(ge=1, description="machines; as in Lightning")] = 1
    strategy: Annotated[str, Field(description="as in Lightning")] = "auto"
