"""The rooms import downwards only (the contracts in pyproject.toml), and packages are light to enter."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_contracts_hold() -> None:
    program = shutil.which("lint-imports", path=str(Path(sys.executable).parent)) or shutil.which("lint-imports")
    if program is None:
        pytest.skip("import-linter is not installed")
    done = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Contracts:" in done.stdout
    assert "0 broken" in done.stdout


def test_no_room_does_work_on_import() -> None:
    """`__init__` files import nothing at run time but the standard library."""
    import ast

    for path in sorted((ROOT / "vision_tasks").rglob("__init__.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            heavy = [n for n in names if n.split(".")[0] not in sys.stdlib_module_names]
            assert not heavy, f"{path} imports {heavy}"
