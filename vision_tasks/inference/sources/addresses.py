"""Addresses of streams: what they are called where others may read it, and how FFmpeg is to open them."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from vision_tasks.errors import VisionTasksError
from vision_tasks.inference.sources.files import IMAGE_ENDINGS, VIDEO_ENDINGS

SCHEMES = frozenset(("rtsp", "rtsps", "rtmp", "rtmps", "http", "https", "udp", "tcp", "srt", "rtp"))

ENDS = (IMAGE_ENDINGS | VIDEO_ENDINGS) - {".mjpg", ".mjpeg", ".ts", ".mts", ".m2ts"}
"""Of an http address that names a file, which ends; what else comes by http is taken for a camera."""

# Streams may refer to other addresses, but not to files of this machine.
_PROTOCOLS = {"protocol_whitelist": "http,https,httpproxy,tcp,tls,udp,rtp,srtp,rtsp,rtmp,rtmps,srt,crypto,data"}
_SECRET = re.compile(r"pass|pwd|token|key|secret|auth|sig|cred", re.IGNORECASE)


def check_scheme(address: str) -> None:
    """Raises: VisionTasksError: no stream can have such an address."""
    scheme = urlsplit(address).scheme.lower()
    if scheme not in SCHEMES:
        raise VisionTasksError(f"{shown(address)}: streams begin with {', '.join(sorted(SCHEMES))}, not {scheme}.")


def shown(address: str) -> str:
    """The address without names, passwords and keys: it ends up in messages and in results."""
    parts = urlsplit(address)
    host = parts.netloc.rpartition("@")[2]
    query = parts.query
    pairs = parse_qsl(query, keep_blank_values=True)
    if any(_SECRET.search(key) for key, _ in pairs):
        query = urlencode([(key, "..." if _SECRET.search(key) else value) for key, value in pairs], safe=".")
    # Some cameras take "user=NAME_password=WORD_channel=1" as their path.
    path = "/..." if _SECRET.search(parts.path) and "=" in parts.path else parts.path
    return urlunsplit((parts.scheme, host, path, query, ""))


def address_name(address: str) -> str:
    """What frames of it are called: its host and the last part of its path."""
    parts = urlsplit(shown(address))
    host = parts.netloc.rpartition(":")[0] if parts.netloc.rpartition(":")[2].isdigit() else parts.netloc
    last = PurePosixPath(parts.path).stem.strip(".")
    return "_".join(part for part in (host.strip("[]"), last) if part) or "stream"


def file_options() -> dict[str, str]:
    """For FFmpeg, of a file that is read over the network: it goes on by itself where a connection broke."""
    retries = {"reconnect": "1", "reconnect_on_network_error": "1", "reconnect_delay_max": "16"}
    return {**_PROTOCOLS, **retries, "rw_timeout": "15000000"}


def live_options() -> dict[str, str]:
    """For FFmpeg, of a stream. RTSP goes through TCP: one lost UDP packet spoils all up to the next key frame."""
    return {**_PROTOCOLS, "rtsp_transport": "tcp"}
