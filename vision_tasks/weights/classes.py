"""Carrying class outputs from a weight file to a model that knows other categories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from vision_tasks.structures import Categories
from vision_tasks.weights.layouts import Known


def matching_labels(own: Categories, known: Categories) -> list[tuple[int, int]]:
    """(own label, known label) of the categories of the same name; case, spaces and underscores do not count.

    Where several have the same name, the first of one side is the first of the other, and so on.
    """
    label_of = {name: label for label, name in enumerate(_plain(known.names))}
    return [(i, label_of[name]) for i, name in enumerate(_plain(own.names)) if name in label_of]


def _plain(names: Sequence[str]) -> list[tuple[str, int]]:
    """Each name as it is compared, and how many of the same came before it."""
    plain = [" ".join(name.replace("_", " ").lower().split()) for name in names]
    return [(name, plain[:i].count(name)) for i, name in enumerate(plain)]


def carry_classes(
    state: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    parameters: Mapping[str, tuple[int, int]],
    known: Known,
    columns: Sequence[int],
    outputs: int,
    pairs: Sequence[tuple[int, int]],
    background: int | None,
) -> dict[str, Tensor]:
    """A copy of `state` whose per-class parameters have the model's shapes.

    The parts of categories in `pairs`, and of the background, come from the file; the others are the model's own, that
    is, random.

    Args:
        own: the model's state dict. parameters: names in both -> (before, after), see `Head.class_parameters`.
        known: what the file's outputs stand for. columns, outputs: the same of the model.
        pairs: (own label, label in `known`). background: output that means "nothing", in both, or None.
    """
    carried = dict(state)
    rows = [(columns[mine], known.columns[theirs]) for mine, theirs in pairs]
    if background is not None:
        rows.append((background, background))
    for name, (before, after) in parameters.items():
        if name not in state or name not in own:
            continue
        source, target = state[name], own[name].clone()
        rest = target.shape[1:]
        if source.shape != (before * known.outputs * after, *rest) or len(target) != before * outputs * after:
            continue  # of another width: load_fitting will say so
        source = source.reshape(before, known.outputs, after, *rest)
        target = target.reshape(before, outputs, after, *rest)
        for mine, theirs in rows:
            target[:, mine] = source[:, theirs]
        carried[name] = target.reshape(own[name].shape)
    return carried
