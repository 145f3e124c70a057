"""Fetching a published file once: with progress, resumed where it broke off, checked against its hash."""

from __future__ import annotations

import http.client
import urllib.error
from pathlib import Path

import torch

from vision_tasks.errors import VisionTasksError
from vision_tasks.weights.files import sha256


def fetch(url: str, folder: Path | None = None) -> Path:
    """Download a file whose name ends in -<first digits of its SHA-256>, once.

    Args:
        folder: where to; torch's cache (`TORCH_HOME`) if None.

    Raises:
        VisionTasksError: no network, no room, or the content does not match the hash.
    """
    folder = folder or Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / url.rsplit("/", 1)[-1]
    wanted = path.stem.rsplit("-", 1)[-1]
    if not path.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Writes to a temporary file, checks the hash, then renames; shows progress on standard error.
            torch.hub.download_url_to_file(url, str(path), hash_prefix=wanted, progress=True)
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            raise VisionTasksError(
                f"Could not download {url} ({error}). If this machine is offline, fetch the file elsewhere, "
                f"and put it at {path} or give its path."
            ) from error
        except RuntimeError as error:
            raise VisionTasksError(f"The download of {url} is damaged ({error}). Try again.") from error
    if not sha256(path).startswith(wanted):
        raise VisionTasksError(f"{path} is not what its publisher offers (SHA-256 differs). Delete it and try again.")
    return path
