"""How long a video file says it is, read from its container without a decoder: decoders do not notice a missing end."""

import re
import struct
from collections.abc import Iterator
from typing import BinaryIO


# Names of outermost boxes by which MP4 and QuickTime files begin.
MP4_BOXES = (b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"pnot", b"uuid", b"sidx", b"junk")


def what_is_missing(file: BinaryIO, size: int) -> str | None:
    """
    Compares a file with the length that its container states.

    Args:
        file: the file, open at any position.
        size (`int`): its length in bytes.

    Returns:
        What shows that the end is missing, or `None`: the file is complete, or its container states no length.
    """
    file.seek(0)
    head = file.read(256)
    try:
        if head[4:8] in MP4_BOXES:
            boxes = list(mp4_boxes(file, size))
            # Without fragments, the table of samples says more exactly what is missing.
            return _shorter(size, boxes[-1][1]) if any(name == b"moof" for name, _ in boxes) else None
        if head.startswith(b"\x1a\x45\xdf\xa3"):
            return _shorter(size, _matroska_end(head))
        if head.startswith(b"RIFF"):
            return _shorter(size, _riff_end(file, size))
        if head.startswith((b"GIF87a", b"GIF89a")):
            return None if _gif_has_trailer(file, head) else f"its end mark is missing after {size} bytes"
        if head.startswith(b"OggS"):
            return None if _ogg_has_ended(file, size) else f"its end mark is missing after {size} bytes"
        if head.startswith(b"YUV4MPEG2 "):
            return _shorter(size, _y4m_end(file, size))
    except (IndexError, struct.error):  # it ends within a header
        return f"it ends within a header, after {size} bytes"
    return None


def mp4_boxes(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int]]:
    """Name and end of each outermost box of an MP4 or QuickTime file."""
    position = 0
    while position + 8 <= size:
        file.seek(position)
        length, name = struct.unpack(">I4s", file.read(8))
        if length == 1:
            length = int.from_bytes(file.read(8), "big")
        elif length == 0:  # to the end of the file
            length = size - position
        if length < 8:
            return
        position += length
        yield name, position


def _shorter(size: int, stated: int) -> str | None:
    return f"{size} of {stated} bytes" if stated > size else None


def _matroska_end(head: bytes) -> int:
    """Where Matroska or WebM says its segment ends; 0 if unknown, as in a live recording."""

    def number(position: int) -> tuple[int, int]:
        length = 9 - head[position].bit_length()  # the leading zeros say how many bytes the number has
        mask = (1 << 7 * length) - 1
        value = int.from_bytes(head[position : position + length], "big") & mask
        return (0 if value == mask else value), position + length  # all ones: unknown

    if len(head) < 256:
        return 0
    header, start = number(4)
    segment = start + header
    if head[segment : segment + 4] != b"\x18\x53\x80\x67" or segment > len(head) - 12:
        return 0
    length, start = number(segment + 4)
    return start + length if length else 0


def _riff_end(file: BinaryIO, size: int) -> int:
    """Where the last RIFF chunk of an AVI file should end. OpenDML files have one for each gigabyte."""
    position, end = 0, 0
    while position + 12 <= size:
        file.seek(position)
        name, length, kind = struct.unpack("<4sI4s", file.read(12))
        if name != b"RIFF" or kind not in (b"AVI ", b"AVIX", b"AMV ") or length in (0, 0xFFFFFFFF):
            break  # something appended, or a recording that was never finished
        position += 8 + length + length % 2
        # Some writers count the 8 bytes of the header too, or do not write the padding byte.
        end = position - 9
    return end


def _gif_has_trailer(file: BinaryIO, head: bytes) -> bool:
    """Walks the blocks of a GIF to its trailer."""
    file.seek(13 + _colour_table(head[10]))
    while True:
        kind = file.read(1)
        if kind == b";":
            return True
        if kind == b"!":  # an extension: a label, then blocks of data
            file.read(1)
        elif kind == b",":  # a picture
            position = file.read(9)
            file.seek(_colour_table(position[8]) + 1, 1)
        elif kind != b"\0":
            return kind != b""  # damaged: for the decoder to say
        if kind in (b"!", b","):
            while (length := file.read(1)) not in (b"", b"\0"):
                file.seek(length[0], 1)


def _colour_table(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _ogg_has_ended(file: BinaryIO, size: int) -> bool:
    """Whether each video stream of an Ogg file, or any stream if it has no video, has a page with the end flag."""
    video, all_streams, ended = set(), set(), set()
    for flags, serial, packet in _ogg_pages(file, size):
        all_streams.add(serial)
        if packet.startswith((b"\x80theora", b"OVP80", b"BBCD", b"\x01video\0")):
            video.add(serial)
        if flags & 4:
            ended.add(serial)
        elif flags & 2:
            ended.discard(serial)  # the next film of a chain
    return video <= ended if video else bool(all_streams & ended)


def _ogg_pages(file: BinaryIO, size: int) -> Iterator[tuple[int, int, bytes]]:
    """Flags, stream number and first bytes of each complete page."""
    position = 0
    while position + 27 <= size:
        file.seek(position)
        header = file.read(27)
        if header[:4] != b"OggS":
            return
        segments = file.read(header[26])
        length = 27 + len(segments) + sum(segments)
        if position + length > size:
            return
        yield header[5], int.from_bytes(header[14:18], "little"), file.read(8)
        position += length


# Planes of 8 bits by name of the colour space: shares of a luma plane in width and height.
_Y4M_CHROMA = {"420": (2, 2), "411": (4, 1), "422": (2, 1), "444": (1, 1)}


def _y4m_end(file: BinaryIO, size: int) -> int:
    """Where the last frame of a Y4M file that has begun should end; 0 if its colour space is unknown."""
    file.seek(0)
    header = file.readline(4096)
    fields = {part[:1]: part[1:].decode("latin-1") for part in header.split()[1:]}
    colours = re.fullmatch(r"(420|411|422|444|mono)(alpha|jpeg|mpeg2|paldv)?(?:p?(\d+))?", fields.get(b"C", "420"))
    width, height = int(fields.get(b"W", "0")), int(fields.get(b"H", "0"))
    if not colours or not width or not height:
        return 0
    luma = width * height
    picture = luma
    if colours[1] != "mono":
        across, down = _Y4M_CHROMA[colours[1]]
        picture += 2 * -(-width // across) * -(-height // down)
    picture += luma * (colours[2] == "alpha")
    picture *= 2 if colours[3] and int(colours[3]) > 8 else 1
    position = len(header)
    while position < size:
        file.seek(position)
        line = file.readline(256)
        if not line.startswith(b"FRAME"):
            break
        position += len(line) + picture
    return position
