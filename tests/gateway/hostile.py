"""Forms that mean harm, and how to send them: row B6."""

import gzip
import socket
import threading

from tests.gateway.conftest import VIDEO, read_answer

MIB = 2**20
FORM = "multipart/form-data; boundary=b"
VIDEO_PART = b'--b\r\nContent-Disposition: form-data; name="video"; filename="v.mp4"\r\nContent-Type: video/mp4\r\n\r\n'
END = b"\r\n--b--\r\n"


def field(name: str, value: bytes = b"x") -> bytes:
    return f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + value + b"\r\n"


def file(number: int) -> bytes:
    return f'--b\r\nContent-Disposition: form-data; name="f{number}"; filename="f{number}"\r\n\r\nx\r\n'.encode()


WHOLE = VIDEO_PART + VIDEO + END
HOSTILE: dict[str, tuple[bytes, bytes]] = {
    # name: (header lines, body)
    "999 fields": (b"", b"".join(field(f"f{number}") for number in range(999)) + WHOLE),
    "200,000 fields": (b"", b"".join(field(f"f{number}") for number in range(200_000)) + WHOLE),
    "999 files": (b"", b"".join(map(file, range(999))) + WHOLE),
    "a field of 20 MiB": (b"", field("sample_fps", b"4" * (20 * MIB)) + WHOLE),
    "a preamble of 20 MiB": (b"", b"x" * (20 * MIB) + b"\r\n" + WHOLE),
    "an epilogue of 80 MiB": (b"", WHOLE + b"x" * (81 * MIB)),
    "a header of 1 MiB in a part": (b"", b"--b\r\nX: " + b"x" * MIB + b"\r\n\r\n" + END),
    "no end": (b"", VIDEO_PART + VIDEO),
    "a boundary of 300 bytes": (b"Content-Type: multipart/form-data; boundary=" + b"b" * 300 + b"\r\n", WHOLE),
    "a compressed body": (b"Content-Encoding: gzip\r\n", gzip.compress(WHOLE)),
    "a file name in another language and charset": (b"", VIDEO_PART.replace(b'filename="v.mp4"', b"filename*=UTF-7''%2e%2e%2f") + VIDEO),
}


def request(headers: bytes, body: bytes) -> bytes:
    kind = b"" if b"Content-Type" in headers else f"Content-Type: {FORM}\r\n".encode()
    length = f"Content-Length: {len(body)}\r\n".encode()
    return b"POST /v1/analyses HTTP/1.1\r\nHost: mien\r\nConnection: close\r\n" + kind + headers + length + b"\r\n" + body


def post(port: int, content: bytes) -> tuple[int, str]:
    """Send it, and read the answer, which may come before all of it is sent."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        sender = threading.Thread(target=send, args=(connection, content))
        sender.start()
        try:
            return read_answer(connection)
        finally:
            sender.join()


def send(connection: socket.socket, content: bytes) -> None:
    try:
        connection.sendall(content)
    except OSError:
        """It was told to stop, and hung up on."""


LINE_ENDS = b"\r\n" * (32 * MIB)
ALMOST = b"\r\n--c" * (64 * MIB // 5)
DEAR = {"line ends": request(b"", VIDEO_PART + LINE_ENDS + END), "almost boundaries": request(b"", VIDEO_PART + ALMOST + END)}
"""Videos of 64 MiB that a form's parser has to look at closely, as whole requests: these are taken."""
