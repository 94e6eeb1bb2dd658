"""Pixels as people see them: HDR, pixels that are not square; and counts that need more than the number of packets."""

import io
import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from drawn_clips import HEIGHT, WIDTH, numbers, patched, write

from vitaclip_hf import VideoDecodingError, decode_video, open_video
from vitaclip_hf.model.sources import VideoTooLargeError
from vitaclip_hf.model.tone_mapping import bt709_of, light_of


PQ, HLG = 16, 18  # FFmpeg's numbers
NAMES = {PQ: "smpte2084", HLG: "arib-std-b67"}


@pytest.mark.parametrize(
    ("transfer", "signal", "light"),  # tables of ITU-R BT.2408 and BT.2100
    [
        ("arib-std-b67", 0.75, 203),
        ("arib-std-b67", 0.38, 26),
        ("arib-std-b67", 1.0, 1000),
        ("smpte2084", 0.5807, 203),
        ("smpte2084", 1.0, 10_000),
        ("smpte2084", 0.0, 0),
    ],
)
def test_light_of_grey(transfer, signal, light):
    assert light_of(np.full(3, signal), transfer) == pytest.approx([light] * 3, rel=0.01)


def from_xyz(primaries) -> np.ndarray:
    """The matrix from XYZ to RGB of some primaries `(x, y)` and the white D65."""
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    white = np.array([0.3127 / 0.3290, 1, (1 - 0.3127 - 0.3290) / 0.3290])
    return np.linalg.inv(columns * np.linalg.solve(columns, white))


TO_BT709 = from_xyz([(0.64, 0.33), (0.30, 0.60), (0.15, 0.06)])
TO_BT2020 = from_xyz([(0.708, 0.292), (0.170, 0.797), (0.131, 0.046)])


def hdr(sdr: np.ndarray, transfer: int) -> np.ndarray:
    """BT.2100 signals of a BT.709 picture in 0 … 1 whose white is paper: the other direction, with other formulas."""
    light = 203 * sdr**2.4 @ (TO_BT2020 @ np.linalg.inv(TO_BT709)).T
    if transfer == PQ:
        power = (light / 10_000) ** 0.1593017578125
        return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375
    luminance = light @ np.array([0.2627, 0.6780, 0.0593]) / 1000
    scene = light / 1000 * luminance[..., None] ** (1 / 1.2 - 1)
    low = np.minimum(scene, 1 / 12)
    return np.where(
        scene <= 1 / 12, np.sqrt(3 * low), 0.17883277 * np.log(12 * scene - 12 * low + 0.71533108) + 0.55991073
    )


COLOURS = [(248, 248, 248), (128, 128, 128), (40, 40, 40), (230, 50, 50), (40, 180, 60), (50, 60, 200), (240, 220, 60)]


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_hdr_has_the_colours_of_sdr(transfer):
    colours = np.repeat(np.repeat(np.array(COLOURS, float)[None], 32, 0), 32, 1)
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = *colours.shape[:2], "yuv444p10le"
        codec = stream.codec_context
        codec.color_trc, codec.color_primaries, codec.colorspace = transfer, 9, 9
        signal = (hdr(colours / 255, transfer) * 65535).round().astype(np.uint16)
        frame = av.VideoFrame.from_ndarray(signal, "rgb48le")
        container.mux(stream.encode(frame.reformat(format="yuv444p10le", dst_colorspace=9, dst_color_range=1)))
        container.mux(stream.encode())
    frames, metadata = decode_video(file.getvalue(), [0])
    assert metadata.tone_mapped == NAMES[transfer]
    assert np.abs(frames[0][16, 16::32].astype(int) - COLOURS).max() <= 6, frames[0][16, 16::32]


def test_what_is_brighter_than_paper_keeps_its_order():
    shown = bt709_of(np.repeat(np.array([[150.0], [203], [300], [600], [1000]]), 3, 1))[:, 0]
    assert (np.diff(shown) > 0).all() and shown[1] * 255 > 248 and shown[-1] <= 1


def test_sdr_is_as_ffmpeg_converts_it(tmp_path):
    path = write(tmp_path / "clip.mp4", count=4)
    with av.open(str(path)) as container:
        expected = [f.to_ndarray(format="rgb24", interpolation="BICUBIC") for f in container.decode(video=0)]
    frames, metadata = decode_video(path, range(4))
    assert np.array_equal(frames, expected)
    assert (metadata.tone_mapped, metadata.pixel_aspect) == (None, 1)


@pytest.mark.parametrize(("aspect", "width"), [(Fraction(2), 2 * WIDTH), (Fraction(8, 9), 85)])
def test_pixels_that_are_not_square(tmp_path, aspect, width):
    for turned in (None, (90, False)):
        path = write(tmp_path / "clip.mp4", count=4, aspect=aspect, rotation=turned)
        for choice, shown in (("displayed", width), ("coded", WIDTH)):
            frames, metadata = decode_video(path, [3, 1], pixel_aspect=choice)
            frames = np.rot90(frames, -1, (1, 2)) if turned else frames
            assert frames.shape == (2, HEIGHT, shown, 3) and numbers(frames) == [3, 1]
            assert metadata.pixel_aspect == pytest.approx(float(aspect), rel=0.001)
            assert {metadata.width, metadata.height} == {shown, HEIGHT}


def test_an_aspect_decides_no_memory(tmp_path):
    data = write(tmp_path / "clip.mp4", count=4, aspect=Fraction(2)).read_bytes()
    wide = patched(data, b"pasp", 4, struct.pack(">II", 1000, 1))
    assert open_video(wide, pixel_aspect="coded").metadata.pixel_aspect == 1000
    with pytest.raises(VideoTooLargeError, match="96000 x 64"):
        open_video(wide)


# Counts


@pytest.mark.parametrize(("codec", "shown"), [("libvpx-vp9", 0x02), ("libvpx", 0x10)])
def test_packets_that_show_nothing(tmp_path, codec, shown):
    """Frames that only others are drawn from, in packets of their own; here keyframes with the bit cleared."""
    rate, count = Fraction(24000, 1001), 72
    path = write(tmp_path / "film.webm", codec=codec, count=count, rate=rate, g=1, **{"cpu-used": 8, "b": "400k"})
    fourcc = b"VP90" if "vp9" in codec else b"VP80"
    data = b"DKIF\0\0\x20\0" + fourcc + struct.pack("<HHIIII", WIDTH, HEIGHT, 24000, 1001, 96, 0)
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    for number, packet in enumerate(packets):
        hidden = [bytes([packet[0] & ~shown]) + packet[1:]] if number % 3 == 0 else []
        data += b"".join(struct.pack("<IQ", len(part), number) + part for part in [*hidden, packet])
    with av.open(io.BytesIO(data)) as container:
        assert sum(packet.size > 0 for packet in container.demux(video=0)) == 96
    video = open_video(data)
    assert (video.metadata.total_num_frames, round(video.metadata.fps, 3)) == (72, 23.976)
    assert video.metadata.duration == pytest.approx(float(count / rate), abs=0.002)
    assert len(video.read([71])) == 1
    assert numbers(video.read([60, 47])) == [60, 47]
    assert video.metadata.timestamps == pytest.approx([float(60 / rate), float(47 / rate)], abs=0.001)


def exp_golomb(*values: int) -> str:
    return "".join(bin(value + 1)[2:].rjust(2 * (value + 1).bit_length() - 1, "0") for value in values)


def nal(header: int, bits: str) -> bytes:
    bits += "1"
    data = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
    payload = bytearray()
    for byte in data:
        payload += b"\3" if payload[-2:] == b"\0\0" and byte <= 3 else b""
        payload.append(byte)
    return b"\0\0\0\1" + bytes([header]) + payload


def field_picture(grey: int, number: int, bottom: bool) -> bytes:
    """Two macroblocks of plain samples: one field of a frame of 32 x 32 pixels in H.264."""
    first = number == 0 and not bottom
    bits = (
        exp_golomb(0, 7, 0) + f"{number % 16:04b}1{bottom:d}" + (exp_golomb(0) + "00" if first else "0") + exp_golomb(0)
    )
    for _ in range(2):
        bits += exp_golomb(25)
        bits = bits.ljust(-(-len(bits) // 8) * 8, "0") + f"{grey:08b}" * 256 + "10000000" * 128
    timing = f"00001{1:032b}{50:032b}10000"
    sequence = f"{77:08b}{0:08b}{30:08b}" + exp_golomb(0, 0, 2, 1) + "0" + exp_golomb(1, 0) + "00101" + timing
    sets = nal(0x67, sequence) + nal(0x68, exp_golomb(0, 0) + "00" + exp_golomb(0, 0, 0) + "000111000")
    return b"\0\0\0\1\x09\x10" + (sets if first else b"") + nal(0x65 if first else 0x61, bits)


def test_two_packets_of_a_frame(tmp_path):
    """Fields in packets of their own, as AVCHD cameras write."""
    data = io.BytesIO()
    with av.open(data, "w", format="mpegts") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for place in range(40):
            packet = av.Packet(field_picture(30 + 5 * (place // 2), place // 2, bool(place % 2)))
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 50), place == 0
            packet.pts = packet.dts = place
            output.mux(packet)
    video = open_video(data.getvalue())
    metadata = video.metadata
    assert (metadata.total_num_frames, metadata.fps, metadata.frames_left_out) == (20, 25, 0)
    assert metadata.duration == pytest.approx(0.8)
    frames = video.read([19, 3])
    greys = [(125 - 16) * 255 / 219, (45 - 16) * 255 / 219]
    assert frames.float().mean((1, 2, 3)).tolist() == pytest.approx(greys, abs=2)
    assert metadata.timestamps == pytest.approx([0.76, 0.12])
    assert [round(frame.time, 3) for frame in video.frames()] == [round(place / 25, 3) for place in range(20)]


def test_frames_have_their_own_time_stamps(tmp_path):
    """Not those of a constant rate."""
    times = [0, 1, 2, 30, 31, 60]
    video = open_video(write(tmp_path / "clip.mp4", count=6, times=times, bf=2))
    video.read([4, 3])
    assert video.metadata.timestamps == pytest.approx([31 / 25, 30 / 25])


# Files of any length


def test_holes_and_empty_boxes_are_damage(tmp_path):
    """A terabyte of zeros after some frames, and boxes of eight bytes."""
    path = tmp_path / "clip.h264"
    write(path, count=4)
    with open(path, "r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(VideoDecodingError, match="clip.h264.*of zeros"):
        open_video(path)
    with pytest.raises(VideoDecodingError, match="31 B"):  # PyAV raises another error than for damage
        open_video(b"YUV4MPEG2 Wabc H64 F25:1\nFRAME\n")
    with pytest.raises(VideoDecodingError, match="boxes are empty"):
        open_video(b"\0\0\0\x18ftypisom" + bytes(12) + b"\0\0\0\x08free" * 100_000)
