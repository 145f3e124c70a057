"""A source that says what it could not read."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from vision_tasks.inference.frames import Source

_REMEMBERED = 10_000  # a camera may run for years, with outages


class TellingSource(Source):
    """What cannot be read is told once, to whom it concerns, and stands in `problems`, however often it is iterated."""

    def __init__(self, name: str, on_problem: Callable[[str], None] | None = None) -> None:
        self.name, self.problems = name, []
        self._on_problem = on_problem
        self._told: set[str] = set()

    def known(self, problems: Iterable[str]) -> None:
        """Adds problems that have been told."""
        self.problems.extend(problems)
        self._told = set(self.problems)

    def tell(self, problem: str) -> None:
        if problem in self._told:
            return
        if len(self.problems) < _REMEMBERED:
            self._told.add(problem)
            self.problems.append(problem)
        if self._on_problem is not None:
            self._on_problem(problem)
