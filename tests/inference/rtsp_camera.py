"""A camera that speaks RTSP over TCP, as far as FFmpeg asks for it: it plays its frames, and hangs up."""

from __future__ import annotations

import contextlib
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import av

from tests.inference.source_clips import make_clip

SDP = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\nm=video 0 RTP/AVP 32\r\na=control:track\r\n"


class _Packets:
    """A file whose every write is a packet."""

    def __init__(self) -> None:
        self.all: list[bytes] = []

    def write(self, data: bytes) -> int:
        self.all.append(bytes(data))
        return len(data)


def rtp_packets(folder: Path, frames: int) -> list[bytes]:
    """MPEG-2 pictures as RTP packets of payload type 32 (RFC 2250), 25 in a second, every one a key frame."""
    make_clip(folder / "rtp.ts", frames, codec="mpeg2video", rate=25, key_every=1)
    out = _Packets()
    with (
        av.open(str(folder / "rtp.ts")) as source,
        av.open(out, "w", format="rtp", options={"payload_type": "32"}, buffer_size=1400) as container,
    ):
        stream = container.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)
    return [packet for packet in out.all if packet[1] & 127 == 32]  # without reports


class _Camera(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            while request := self._request():
                method, number = request
                extra, body = "Session: 1\r\n", ""
                if method == "OPTIONS":
                    extra = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
                elif method == "DESCRIBE":
                    if not self.server.plays:
                        self.wfile.write(f"RTSP/1.0 503 Service Unavailable\r\nCSeq: {number}\r\n\r\n".encode())
                        return
                    extra, body = "Content-Type: application/sdp\r\n", SDP
                elif method == "SETUP":
                    extra += "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
                head = f"RTSP/1.0 200 OK\r\nCSeq: {number}\r\n{extra}Content-Length: {len(body)}\r\n\r\n"
                self.wfile.write((head + body).encode())
                if method == "PLAY":
                    for packet in self.server.plays.pop(0):
                        self.wfile.write(b"$\0" + len(packet).to_bytes(2, "big") + packet)
                    return

    def _request(self) -> tuple[str, str] | None:
        """Method and number of the next request; None at the end."""
        method, number = "", ""
        while line := self.rfile.readline().decode().strip():
            method = method or line.split()[0]
            if line.lower().startswith("cseq:"):
                number = line.split(":")[1].strip()
                self.server.asked.append(method)
        return (method, number) if method else None


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, plays: list[list[bytes]]) -> None:
        super().__init__(("127.0.0.1", 0), _Camera)
        self.plays, self.asked = plays, []  # type: tuple[list[list[bytes]], list[str]]


@contextlib.contextmanager
def rtsp_camera(*plays: list[bytes]) -> Iterator[tuple[str, list[str]]]:
    """Plays each of the lists of packets to one connection, then is out of order; host and port, and what was asked."""
    with _Server(list(plays)) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"127.0.0.1:{running.server_address[1]}", running.asked
        finally:
            running.shutdown()
            thread.join()
