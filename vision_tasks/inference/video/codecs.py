"""Which encoders videos can be written with, which files hold them, and how they are set."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import av

from vision_tasks.errors import VisionTasksError

CONTAINERS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}  # ending -> FFmpeg's name


def _between(worst: float, best: float) -> Callable[[int], str]:
    return lambda quality: str(round(worst + (best - worst) * quality / 100))


def _x264(quality: int) -> dict[str, str]:
    # Without B frames every packet's decoding time is its showing time. MP4 takes a video's length from the former:
    # with B frames and uneven times it says too little, and players end early. They would save 7% of the size here.
    return {"preset": "veryfast", "crf": _between(45, 10)(quality), "bf": "0"}


def _nvenc(quality: int) -> dict[str, str]:
    return {"preset": "p4", "rc": "vbr", "cq": _between(45, 12)(quality), "b": "0", "bf": "0"}


def _vpx(quality: int) -> dict[str, str]:
    speed = {"deadline": "realtime", "cpu-used": "8", "row-mt": "1", "tile-columns": "2"}
    return {**speed, "crf": _between(60, 15)(quality), "b": "0"}


def _svt(quality: int) -> dict[str, str]:
    return {"preset": "12", "crf": _between(60, 15)(quality)}


def _mpeg4(quality: int) -> dict[str, str]:
    # Steps of the quantiser count in ratios: 31 is worst, 1 best.
    step = str(max(1, round(31 ** (1 - quality / 100))))
    return {"qmin": step, "qmax": step, "b": "100M"}


@dataclass(frozen=True)
class VideoCodec:
    """One way to encode.

    Attributes:
        encoder: FFmpeg's name. endings: of the files that may hold it, the usual one first.
        options: from a quality (0 to 100) to the encoder's options; a constant quality, not a constant rate.
        licence: of the encoder. plays: where the result plays.
        hardware: whether it wants a device, so that it may be there and yet not work.
        ticks: the most time steps a second that its streams can count.
        smallest: the least width and height it takes without an error or, as SVT-AV1 does, a hang, in pixels.
        fastest: the highest rate it can be told, in frames per second; its frames may follow each other faster.
    """

    encoder: str
    endings: tuple[str, ...]
    options: Callable[[int], dict[str, str]]
    licence: str
    plays: str
    hardware: bool = False
    ticks: int = 90_000
    smallest: int = 2
    fastest: int = 1000


VIDEO_CODECS: dict[str, VideoCodec] = {
    "h264": VideoCodec("libx264", (".mp4", ".mov", ".mkv"), _x264, "GPL-2.0-or-later", "everywhere"),
    "h264_nvenc": VideoCodec(
        "h264_nvenc",
        (".mp4", ".mov", ".mkv"),
        _nvenc,
        "LGPL; NVIDIA's driver",
        "everywhere",
        hardware=True,
        smallest=160,
    ),
    "vp9": VideoCodec("libvpx-vp9", (".webm", ".mp4", ".mkv"), _vpx, "BSD-3-Clause", "browsers, VLC"),
    "av1": VideoCodec(
        "libsvtav1",
        (".mp4", ".webm", ".mkv"),
        _svt,
        "BSD-3-Clause-Clear",
        "newer browsers, VLC",
        smallest=64,
        fastest=240,
    ),
    # MPEG-4 part 2 counts a second in 16 bits.
    "mpeg4": VideoCodec(
        "mpeg4", (".mp4", ".mov", ".mkv"), _mpeg4, "LGPL-2.1-or-later", "VLC; no browser", ticks=60_000
    ),
}


@cache
def _works(encoder: str) -> bool:
    """Whether a hardware encoder opens here."""
    try:
        context = av.codec.CodecContext.create(encoder, "w")
        assert isinstance(context, av.VideoCodecContext)
        context.width, context.height, context.pix_fmt = 256, 256, "yuv420p"
        context.framerate = 30  # type: ignore[assignment]
        context.open()
    except (av.FFmpegError, OSError, ValueError):
        return False
    return True


def available_codecs() -> list[str]:
    """Names of `VIDEO_CODECS` that this machine and its FFmpeg can encode, the usual one first."""
    return [
        name
        for name, codec in VIDEO_CODECS.items()
        if codec.encoder in av.codecs_available and (not codec.hardware or _works(codec.encoder))
    ]


def find_codec(name: str) -> VideoCodec:
    """The codec of that name.

    Raises:
        VisionTasksError: there is no such codec, or it is not available here; names those that are.
    """
    there = available_codecs()
    if name in there:
        return VIDEO_CODECS[name]
    others = f"available here: {', '.join(there)}" if there else "this build of PyAV has no encoder for video"
    if name not in VIDEO_CODECS:
        raise VisionTasksError(f"there is no video codec '{name}'; {others}")
    codec = VIDEO_CODECS[name]
    if codec.encoder in av.codecs_available:
        raise VisionTasksError(f"video codec '{name}' needs hardware or a driver that is not here; {others}")
    raise VisionTasksError(
        f"video codec '{name}' needs the encoder {codec.encoder}, which this build of PyAV lacks; {others}"
    )


def default_ending(codec: str = "h264") -> str:
    """The usual ending of files with this codec: ".mp4", for vp9 ".webm".

    Raises:
        VisionTasksError: there is no such codec.
    """
    if codec not in VIDEO_CODECS:
        find_codec(codec)  # says which there are here
    return VIDEO_CODECS[codec].endings[0]


def container_of(path: Path, name: str) -> str:
    """FFmpeg's name of the kind of file that the path's ending says.

    Raises:
        VisionTasksError: no video has that ending, or none of this codec has.
    """
    ending = path.suffix.lower()
    endings = VIDEO_CODECS[name].endings
    if ending in endings:
        return CONTAINERS[ending]
    if ending in CONTAINERS:
        fitting = [other for other in available_codecs() if ending in VIDEO_CODECS[other].endings]
        raise VisionTasksError(
            f"{path}: a {ending} file cannot hold {name}; name it {' or '.join(endings)}"
            + (f", or choose the codec {' or '.join(fitting)}" if fitting else "")
        )
    raise VisionTasksError(f"{path}: videos are written to files ending in {', '.join(endings)}, not '{ending}'")


def reason(error: BaseException) -> str:
    """What FFmpeg or the system says of an error, in words and without numbers and options."""
    if isinstance(error, av.FFmpegError | OSError):
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return "no space is left there; free some, or name another folder"
        return error.strerror or str(error)
    return str(error)


def system_error(error: BaseException) -> bool:
    """Whether the disk or the network is at fault, rather than what FFmpeg was asked for. Its own numbers are huge."""
    number = getattr(error, "errno", None)
    return isinstance(number, int) and number != errno.EINVAL and number in errno.errorcode


def quiet_encoders() -> None:
    """Keep SVT-AV1 from writing its settings to stderr, unless its own variable says otherwise."""
    os.environ.setdefault("SVT_LOG", "1")
