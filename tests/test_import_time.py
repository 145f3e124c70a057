"""What `--help` and `import vision_tasks` must not load: seconds of libraries that they do not need."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "torchvision", "lightning", "torchmetrics", "cv2", "albumentations", "matplotlib", "numpy")

LOADED = "import json, sys; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})), file=sys.stderr)"


def loaded_by(code: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stderr.strip().splitlines()[-1]))


def test_importing_the_package_is_light() -> None:
    assert not loaded_by(f"import vision_tasks; dir(vision_tasks); {LOADED}") & set(HEAVY)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["train", "--help"], ["predict", "--help"]])
def test_help_is_light(arguments: list[str]) -> None:
    code = (
        f"import sys; sys.argv = ['vision-tasks', *{arguments!r}]\n"
        "from vision_tasks.cli.main import main\n"
        f"try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n{LOADED}"
    )
    loaded = loaded_by(code)
    assert "vision_tasks" in loaded
    assert not loaded & set(HEAVY)


def test_every_public_name_is_there() -> None:
    import vision_tasks as vt

    for name in vt.__all__:
        assert getattr(vt, name) is not None
    assert set(vt.__all__) <= set(dir(vt))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = vt.nothing
