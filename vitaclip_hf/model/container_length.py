"""How long a video file says it is, read from its container without a decoder: decoders do not notice a missing end."""

import io
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
    head = file.read(1024)
    try:
        if head[4:8] in MP4_BOXES:
            boxes = list(mp4_boxes(file, size))
            # Without fragments, the table of samples says more exactly what is missing.
            return _shorter(size, boxes[-1][1]) if any(name == b"moof" for name, _ in boxes) else None
        if head.startswith(b"\x1a\x45\xdf\xa3"):
            return _shorter(size, _matroska_end(file, size))
        if head.startswith(b"RIFF"):
            return _shorter(size, _riff_end(file, size))
        if head.startswith((b"GIF87a", b"GIF89a")):
            return None if _gif_end(file)[0] else f"its end mark is missing after {size} bytes"
        if head.startswith(b"OggS"):
            return None if _ogg_has_ended(file, size) else f"its end mark is missing after {size} bytes"
        if head.startswith(b"YUV4MPEG2 "):
            return _shorter(size, _y4m_end(file, size))
        if head.startswith(b"FLV"):
            return _shorter(size, _flv_end(file, size))
        if head.startswith(_ASF_HEADER):
            return _shorter(size, _asf_end(file, size))
        if head.startswith(_MXF_HEADER):
            return _shorter(size, _mxf_end(file, size))
        if head.startswith(b"\x89PNG\r\n\x1a\n"):
            return _shorter(size, _png_end(file, size))
        if head.startswith(b"\xff\xd8\xff"):
            return _shorter(size, _jpeg_end(file, size))
        if head.startswith(b"DKIF"):
            return _shorter(size, _ivf_end(file, size))
        if head.startswith(b"\0\0\1\xba"):
            return _shorter(size, _program_stream_end(file, size))
        if packet := _transport_packet(head):
            return _shorter(size, _transport_stream_end(file, size, packet))
    except (IndexError, struct.error):  # it ends within a header
        return f"it ends within a header, after {size} bytes"
    return None


def start_of_cut_table(file: BinaryIO, size: int) -> int | None:
    """Where the table of the last fragment of an MP4 begins, if that table is cut: FFmpeg then reads no fragment."""
    file.seek(4)
    if file.read(4) not in MP4_BOXES:
        return None
    start = 0
    for name, end in mp4_boxes(file, size):
        if end > size:
            return None if name == b"mdat" else start
        start = end
    return start if start < size else None  # a cut header of a box


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


_EBML, _SEGMENT, _CLUSTER = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75"
_MAX_EBML_HEADER = 1000


def _matroska_end(file: BinaryIO, size: int) -> int:
    """
    Where Matroska or WebM says its segment ends.

    A live recording does not say it: there, where its last element ends. 0 for what is no Matroska.
    """
    position = 0
    while position < size:
        name, length, start = _ebml_element(file, position)
        if not name or name == _EBML and (length is None or length > _MAX_EBML_HEADER):
            break  # something appended
        if length is not None:
            position = start + length
            if name == _SEGMENT:
                return position
        elif name in (_SEGMENT, _CLUSTER):
            position = start  # its elements follow
        else:
            break
    return position


def _ebml_element(file: BinaryIO, position: int) -> tuple[bytes, int | None, int]:
    """Name, length (`None`: unknown) and start of the content of an element. No name for what is none."""
    file.seek(position)
    head = file.read(12)
    after_name = 9 - head[0].bit_length()  # the leading zeros say how many bytes a number has
    if after_name > 4:
        return b"", None, position
    after_length = after_name + 9 - head[after_name].bit_length()
    if after_length - after_name > 8:
        return b"", None, position
    if after_length > len(head):
        raise IndexError
    mask = (1 << 7 * (after_length - after_name)) - 1
    length = int.from_bytes(head[after_name:after_length], "big") & mask
    # All ones: unknown.
    return head[:after_name], None if length == mask else length, position + after_length


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


def _gif_end(file: BinaryIO) -> tuple[bool, int]:
    """Walks the blocks of a GIF: whether it has its trailer, and where the last whole picture ends."""
    file.seek(0)
    file.seek(13 + _colour_table(file.read(13)[10]))
    end = 0
    while True:
        kind = file.read(1)
        if kind == b";":
            return True, end
        if kind == b"!":  # an extension: a label, then blocks of data
            file.read(1)
        elif kind == b",":  # a picture
            position = file.read(9)
            if len(position) < 9:
                return False, end
            file.seek(_colour_table(position[8]) + 1, 1)
        elif kind != b"\0":
            return kind != b"", end  # damaged: for the decoder to say
        if kind in (b"!", b","):
            while (length := file.read(1)) not in (b"", b"\0"):
                file.seek(length[0], 1)
            if length and kind == b",":
                end = file.tell()


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


_FLV_TAGS = (8, 9, 18)  # sound, pictures, data


def _flv_end(file: BinaryIO, size: int) -> int:
    """Where the last tag of an FLV file that has begun should end."""
    file.seek(5)
    position = int.from_bytes(file.read(4), "big") + 4
    stated = re.search(rb"\0\x08filesize\0(.{8})", file.read(4096), re.DOTALL)
    if stated and size < (length := struct.unpack(">d", stated[1])[0]) < 1 << 50:
        return int(length)
    if size > position + 15:  # quickly: the last four bytes are the length of the last tag
        file.seek(-4, io.SEEK_END)
        last = int.from_bytes(file.read(4), "big")
        if 11 <= last < size - position:
            file.seek(size - last - 4)
            head = file.read(4)
            if head[0] & 0x1F in _FLV_TAGS and int.from_bytes(head[1:], "big") == last - 11:
                return size
    while position + 11 <= size:
        file.seek(position)
        head = file.read(4)
        if head[0] & 0x1F not in _FLV_TAGS:
            break  # something appended
        position += 11 + int.from_bytes(head[1:], "big")
        if position == size:  # some writers leave the last tag's length out
            return size
        position += 4
    return position


_ASF_HEADER = b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c"
_ASF_DATA = b"\x36\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c"


def _asf_end(file: BinaryIO, size: int) -> int:
    """Where the data of a WMV or ASF file ends; 0 for a broadcast, which does not say it."""
    position = 0
    while position + 24 <= size:
        file.seek(position)
        name, length = struct.unpack("<16sQ", file.read(24))
        if length < 24:
            return 0
        position += length
        if name == _ASF_DATA:
            return position
    return position


_MXF_HEADER = b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02\x01\x01"


def _mxf_end(file: BinaryIO, size: int) -> int:
    """Where the last entry of an MXF file that has begun should end, or where it says that its footer begins."""
    position, footer = 0, 0
    while position + 20 <= size:
        file.seek(position)
        head = file.read(25)
        if not head.startswith(b"\x06\x0e\x2b\x34"):
            break  # something appended
        length, start = head[16], position + 17
        if length & 0x80:
            digits = length & 0x7F
            if digits > 8:
                break
            length, start = int.from_bytes(head[17 : 17 + digits], "big"), start + digits
        if head.startswith(_MXF_HEADER) and head[13] in (2, 3, 4):  # a partition
            file.seek(start + 24)
            footer = max(footer, int.from_bytes(file.read(8), "big"))
        position = start + length
    return max(position, footer + 1 if footer else 0)


def _png_end(file: BinaryIO, size: int) -> int:
    """Where the last chunk of a PNG or APNG that has begun should end; beyond the file if its end chunk is missing."""
    position = 8
    while position + 8 <= size:
        file.seek(position)
        length, name = struct.unpack(">I4s", file.read(8))
        position += length + 12
        if name == b"IEND":
            return position
    return max(position, size + 1)


def end_of_whole_pictures(file: BinaryIO) -> int | None:
    """Where the last whole picture of a cut GIF or Motion JPEG ends; `None` for other files."""
    file.seek(0)
    head = file.read(6)
    try:
        if head in (b"GIF87a", b"GIF89a"):
            return _gif_end(file)[1]
        if head.startswith(b"\xff\xd8\xff"):
            return _last_jpeg(file, file.seek(0, io.SEEK_END))[0]
    except IndexError:
        return 0
    return None


_JPEG_TAIL = 1 << 24  # bytes; pictures are shorter


def _last_jpeg(file: BinaryIO, size: int) -> tuple[int, bool]:
    """Where the last picture begins, and whether it ends."""
    start = max(size - _JPEG_TAIL, 0)
    file.seek(start)
    tail = file.read()
    begin = max(tail.rfind(b"\xff\xd8\xff"), 0)
    return start + begin, tail.find(b"\xff\xd9", begin) >= 0


def _jpeg_end(file: BinaryIO, size: int) -> int:
    """Beyond the file if its last picture has no end mark."""
    return size if _last_jpeg(file, size)[1] else size + 1


def _ivf_end(file: BinaryIO, size: int) -> int:
    """Where the last frame of an IVF file that has begun should end."""
    file.seek(6)
    position = int.from_bytes(file.read(2), "little")
    while position + 12 <= size:
        file.seek(position)
        position += 12 + int.from_bytes(file.read(4), "little")
    return position if position == size else max(position, size + 1)


_PROGRAM_STREAM_TAIL = 1 << 18  # packs are much shorter


def _program_stream_end(file: BinaryIO, size: int) -> int:
    """Where the last packet of an MPEG program stream that has begun should end; 0 if no pack begins near the end."""
    file.seek(max(size - _PROGRAM_STREAM_TAIL, 0))
    position = file.tell()
    found = file.read(_PROGRAM_STREAM_TAIL).find(b"\0\0\1\xba")
    position = size if found < 0 else position + found
    while position + 14 <= size:
        file.seek(position)
        head = file.read(14)
        if head[:3] != b"\0\0\1" or head[3] < 0xBA:
            break  # the end code, stuffing, or something appended
        if head[3] != 0xBA:
            position += 6 + int.from_bytes(head[4:6], "big")
        elif head[4] >> 6 == 1:  # the header of a pack, MPEG-2
            position += 14 + (head[13] & 7)
        else:
            position += 12
    return position


def _transport_packet(head: bytes) -> int:
    """Length of the packets of an MPEG transport stream, 188, 192 or 204 bytes; 0 for other files."""
    for start, length in ((0, 188), (4, 192), (0, 204)):
        if len(head) > start + 3 * length and all(head[start + k * length] == 0x47 for k in range(4)):
            return length
    return 0


def _transport_stream_end(file: BinaryIO, size: int, packet: int) -> int:
    """Where the last packet that has begun should end; 0 if what follows the packets is no packet."""
    rest = size % packet
    file.seek(size - rest)
    head = file.read(rest)
    start = 4 if packet == 192 else 0  # a time stamp
    return size - rest + packet if rest and head[start : start + 1] in (b"", b"\x47") else 0
