"""Data: reading, examining, converting and loading annotated images.

Names are imported when first used, so that `import vision_tasks.data` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vision_tasks.data.doctor.diagnose import diagnose as diagnose
    from vision_tasks.data.doctor.findings import Diagnosis as Diagnosis
    from vision_tasks.data.doctor.findings import Example as Example
    from vision_tasks.data.doctor.findings import Finding as Finding
    from vision_tasks.data.formats.registry import FORMATS as FORMATS
    from vision_tasks.data.formats.registry import find_data as find_data
    from vision_tasks.data.formats.registry import read_data as read_data
    from vision_tasks.data.operations.writing import write_data as write_data
    from vision_tasks.data.records import Records as Records

_HOME = {
    "Diagnosis": "doctor.findings",
    "Example": "doctor.findings",
    "FORMATS": "formats.registry",
    "Finding": "doctor.findings",
    "Records": "records",
    "diagnose": "doctor.diagnose",
    "find_data": "formats.registry",
    "read_data": "formats.registry",
    "write_data": "operations.writing",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_HOME)
