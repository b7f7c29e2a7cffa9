"""A process of its own that decodes the frames of one live session; the server itself opens nothing that viewers send.

    python -m vivant.web.frames h264|jpeg|png

    in:   length (u32), packet                                          little-endian, again and again
    out:  ANSWER (kind, width or length, height), then RGB or a sentence

Once it has decoded a picture of its own making, it gives up files, sockets, children and all memory but a part, for
good; then it says that it is ready. It ends with its standard input.
"""

from __future__ import annotations

import struct
import sys
from enum import IntEnum
from typing import BinaryIO

import numpy as np

from vivant.errors import InputError
from vivant.media.packets import PacketCodec, PacketDecoder, PacketEncoder
from vivant.web.decode import restrict

MEMORY_BYTES = 800_000_000
"""Address space; 215 MB of it are taken before the first frame. 1920x1080 H.264 with 16 references takes 50 MB more."""
LENGTH = struct.Struct("<I")
ANSWER = struct.Struct("<BII")


class Kind(IntEnum):
    """Of an answer."""

    READY = 0
    PICTURE = 1
    NONE = 2
    """The decoder wants more packets first."""
    REFUSED = 3
    """A sentence follows; the process goes on."""


def main(codec: PacketCodec) -> int:
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    _import_everything(codec)
    give_up()
    _answer(sink, Kind.READY)
    decoder = PacketDecoder(codec)
    while len(head := source.read(LENGTH.size)) == LENGTH.size:
        try:
            image = decoder.decode(source.read(*LENGTH.unpack(head)))
        except (InputError, MemoryError) as error:
            sentence = (str(error) or "a frame needs more memory than this server gives to one").encode()
            _answer(sink, Kind.REFUSED, sentence, len(sentence))
            continue
        if image is None:
            _answer(sink, Kind.NONE)
        else:
            _answer(sink, Kind.PICTURE, np.ascontiguousarray(image).data, image.shape[1], image.shape[0])
    return 0


def give_up() -> None:
    """Memory but a part, writing and opening files, sockets, children."""
    restrict({"AS": MEMORY_BYTES, "FSIZE": 0, "NOFILE": 0, "NPROC": 0, "CORE": 0})


def _import_everything(codec: PacketCodec) -> None:
    """Decode once: what libraries open lazily has to be open before opening is given up."""
    packet = PacketEncoder(codec).encode(np.zeros((64, 64, 3), np.uint8))
    PacketDecoder(codec).decode(packet.data)


def _answer(
    sink: BinaryIO, kind: Kind, content: bytes | memoryview = b"", first: int = 0, second: int = 0
) -> None:
    sink.write(ANSWER.pack(kind, first, second))
    sink.write(content)
    sink.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))  # type: ignore[arg-type]  # one of PacketCodec: the server says which
