"""`decode_video` against clips that are drawn here: every picture shows its own number, so that a decoded frame says
which one it is, whatever time stamps and headers claim."""

import copy
import functools
import gc
import importlib
import io
import os
import pickle
import struct
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from drawn_clips import (
    CODECS_WANTED,
    HEIGHT,
    NUM_FRAMES,
    RECIPES,
    WIDTH,
    mux_silence,
    numbers,
    patched,
    picture,
    remux,
    write,
)

from vitaclip_hf import VideoDecodingError, decode_video, open_video
from vitaclip_hf.model.frame_sampling import ClipSpecification


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("clips")


@pytest.fixture(scope="session")
def clip(folder):
    """Function from a name in `RECIPES` to the path of its clip, written once."""

    @functools.cache
    def written(name: str) -> Path:
        if CODECS_WANTED[name] not in av.codecs_available:
            pytest.skip(f"PyAV was built without {CODECS_WANTED[name]}")
        return write(folder / name, **RECIPES[name])

    return written


@pytest.fixture(scope="session")
def sparse(clip) -> Path:
    return clip("sparse_keyframes.mp4")


def usable(decoder: str) -> bool:
    try:
        importlib.import_module("torchcodec.decoders" if decoder == "torchcodec" else decoder)
    except (ImportError, RuntimeError, OSError):
        return False
    return True


def needing(decoder: str):
    return pytest.param(decoder, marks=pytest.mark.skipif(not usable(decoder), reason=f"{decoder} is not usable here"))


BACK_ENDS = ["auto", "pyav", needing("torchcodec"), needing("decord")]


# Frames


@pytest.mark.parametrize("name", RECIPES)
def test_every_frame_of_every_kind_of_file(clip, name):
    count, size = RECIPES[name].get("count", NUM_FRAMES), RECIPES[name].get("size", (HEIGHT, WIDTH))
    frames, metadata = decode_video(clip(name), range(count))
    assert frames.shape == (count, *size, 3) and frames.dtype == np.uint8
    assert numbers(frames) == list(range(count))
    assert (metadata.total_num_frames, metadata.height, metadata.width) == (count, *size)
    assert metadata.frames_indices == list(range(count)) and metadata.video_backend == "pyav"
    # In any order, with repeats, also around keyframes.
    wanted = [number % count for number in (47, 0, 12, 11, 13, 11, 11, 24, 23, 22, 36, 35, 5, 6, 47)]
    frames, metadata = decode_video(clip(name), wanted)
    assert numbers(frames) == wanted and metadata.frames_indices == wanted


@pytest.mark.parametrize("decoder", BACK_ENDS)
def test_back_ends_agree_where_all_are_right(clip, sparse, decoder):
    wanted = [40, 3, 3, 17, 6, 5]
    for source in (sparse, sparse.read_bytes(), clip("dense_keyframes.mp4")):
        frames, metadata = decode_video(source, wanted, decoder=decoder)
        assert numbers(frames) == wanted
        assert metadata.video_backend == {"auto": "pyav"}.get(decoder, decoder)
        assert (metadata.total_num_frames, metadata.height, metadata.width) == (NUM_FRAMES, HEIGHT, WIDTH)
        assert metadata.fps == pytest.approx(25) and metadata.duration == pytest.approx(NUM_FRAMES / 25)
        assert metadata.frames_indices == wanted


@pytest.mark.parametrize("hflip", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_frames_are_turned_and_mirrored_as_displayed(folder, degrees, hflip):
    path = write(folder / f"turned{degrees}{hflip}.mp4", count=4, rotation=(degrees, hflip))
    before = open_video(path).metadata
    sizes = [(before.height, before.width)]  # displayed, and known before decoding
    frames, metadata = decode_video(path, [2, 1])
    turned = np.stack([np.rot90(picture(number), degrees // 90) for number in (2, 1)])  # counter-clockwise
    expected = turned[:, :, ::-1] if hflip else turned
    assert sizes == [expected.shape[1:3]]
    assert frames.shape[1:] == expected[0].shape == (metadata.height, metadata.width, 3)
    assert np.abs(frames.astype(int) - expected).mean() < 12


def test_time_stamps_of_variable_rate_give_the_mean_rate(clip):
    times = RECIPES["variable_rate.mp4"]["times"]
    metadata = decode_video(clip("variable_rate.mp4"), [0])[1]
    assert metadata.duration == pytest.approx((times[-1] + 1) / 25, abs=0.05)
    assert metadata.fps == pytest.approx(NUM_FRAMES / metadata.duration, rel=0.03)


def test_frames_of_another_size_are_scaled_to_the_first(folder, clip):
    """Two transport streams one after the other, the second with larger frames."""
    larger = write(folder / "larger.ts", count=12, size=(HEIGHT * 2, WIDTH * 2))
    joined = write(folder / "smaller.ts", count=12).read_bytes() + larger.read_bytes()
    frames, metadata = decode_video(joined, range(24))
    assert frames.shape == (24, HEIGHT, WIDTH, 3) and metadata.total_num_frames == 24
    assert np.abs(frames[12:].astype(int) - np.stack([picture(n) for n in range(12)])).mean() < 15
    assert numbers(frames[:12]) == list(range(12))


def test_cover_art_is_not_the_video(folder):
    path = folder / "song.m4a"
    with av.open(str(path), "w", format="mp4") as container:
        cover = container.add_stream("mjpeg", rate=25)
        cover.height, cover.width, cover.pix_fmt = HEIGHT, WIDTH, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        sound = container.add_stream("aac", rate=16000, layout="mono")
        for packet in cover.encode(av.VideoFrame.from_ndarray(picture(1), "rgb24")):
            container.mux(packet)
        mux_silence(container, sound)
    with pytest.raises(VideoDecodingError, match="no video stream"):
        decode_video(path, [0])


# Counts that lie


class Recorder:
    """In place of a clip specification: chooses the first and the last frame and remembers the counts it was given."""

    def __init__(self):
        self.counts = []

    def frame_numbers(self, total, seed=None):
        self.counts.append(total)
        return [[0, total - 1]]


def read_clip(source, specification):
    """The frames `[T, 3, H, W]` of one view, and the metadata."""
    video = open_video(source)
    (clip,) = video.read_clips(specification)
    return clip, video.metadata


def test_views_overlap_and_short_videos_repeat_frames(sparse):
    """Two dense views of 40 frames at stride 1 of 48: they start at 0 and 8; without a specification, all frames."""
    video = open_video(sparse)
    views = video.read_clips(ClipSpecification(40, "dense", 1, num_views=2))
    assert [numbers(view) for view in views] == [list(range(40)), list(range(8, 48))]
    assert video.metadata.frames_indices == [*range(40), *range(8, 48)]
    (clip,) = open_video(sparse).read_clips(ClipSpecification(4, "dense", 47))
    assert numbers(clip) == [0, 47, 47, 47]
    (everything,) = open_video(sparse).read_clips()
    assert numbers(everything) == list(range(48))


def test_an_avi_header_that_counts_too_many(clip):
    data = clip("mpeg4_b_frames.avi").read_bytes()
    data = patched(data, b"avih", 8 + 16, struct.pack("<I", 60))
    data = patched(data, b"strh", 8 + 32, struct.pack("<I", 60))
    with av.open(io.BytesIO(data)) as container:
        assert container.streams.video[0].frames == 60
    chosen = Recorder()
    frames, metadata = read_clip(data, chosen)
    assert chosen.counts == [NUM_FRAMES] and metadata.total_num_frames == NUM_FRAMES
    assert numbers(frames) == [0, NUM_FRAMES - 1]


def test_an_edit_list_hides_frames(clip, sparse):
    """Playback starts at picture 10 and lasts 20 frames; the header still counts all of them."""
    data = sparse.read_bytes()
    with av.open(str(sparse)) as container:
        stream = container.streams.video[0]
        tick = int(1 / (25 * stream.time_base))
    at = data.index(b"elst") + 12
    duration, media_time = struct.unpack(">Ii", data[at : at + 8])
    data = patched(data, b"elst", 12, struct.pack(">Ii", duration * 20 // NUM_FRAMES, media_time + 10 * tick))
    chosen = Recorder()
    frames, metadata = read_clip(data, chosen)
    assert chosen.counts == [20] and metadata.total_num_frames == 20
    assert numbers(frames) == [10, 29]
    assert numbers(decode_video(data, range(20))[0]) == list(range(10, 30))


def test_frames_are_chosen_again_if_decoding_finds_another_count(clip, folder):
    """A recording that starts inside an open group of pictures: frames that need the missing part are not shown."""
    path = folder / "joined_late.mkv"
    packets = remux(str(clip("open_gop_hevc.mp4")), str(path), from_keyframe=2)
    chosen = Recorder()
    frames, metadata = read_clip(path, chosen)
    count = metadata.total_num_frames
    assert chosen.counts == [packets, count] and count < packets
    assert numbers(frames) == [12, 47] and metadata.frames_indices == [0, count - 1]
    assert numbers(decode_video(path, range(count))[0]) == list(range(12, 48))
    with pytest.raises(IndexError, match=f"frame {count} .* {count} frames"):
        decode_video(path, [count])


# Broken files


@pytest.fixture(scope="session")
def broken(folder, sparse):
    """Files that cannot be decoded, by name."""
    fast = write(folder / "fast.mp4", movflags="faststart", g=250, bf=2).read_bytes()
    whole = sparse.read_bytes()
    middle, scattered = bytearray(whole), bytearray(whole)
    start = whole.index(b"mdat") + 4
    length = struct.unpack(">I", whole[start - 8 : start - 4])[0] - 8
    middle[start + length // 2 : start + length * 2 // 3] = bytes(length * 2 // 3 - length // 2)
    for at in np.random.default_rng(0).integers(start + length // 2, start + length - 9, 20):
        scattered[at] ^= 0x55
    contents = {"empty": b"", "garbage": np.random.default_rng(0).bytes(50_000)}
    contents |= {"header_only": fast[: fast.index(b"mdat") + 8], "truncated": fast[: len(fast) * 6 // 10]}
    contents |= {"zeroed_middle": bytes(middle), "scattered_bytes": bytes(scattered)}
    paths = {name: folder / f"{name}.mp4" for name in contents}
    for name, path in paths.items():
        path.write_bytes(contents[name])
    with av.open(str(folder / "audio_only.mp4"), "w") as container:
        mux_silence(container, container.add_stream("aac", rate=16000, layout="mono"))
    (folder / "directory.mp4").mkdir()
    return {**paths, **{name: folder / f"{name}.mp4" for name in ("audio_only", "directory", "missing")}}


UNREADABLE = {"empty": "empty", "audio_only": "no video stream", "directory": "not a file"}
UNREADABLE |= {"missing": "no such file", "header_only": "Cannot read the video"}
UNREADABLE["garbage"] = "this format is not supported"
DAMAGED = ["truncated", "zeroed_middle", "scattered_bytes"]


@pytest.mark.parametrize("decoder", BACK_ENDS)
@pytest.mark.parametrize("name", UNREADABLE)
def test_unreadable_files_give_one_error(broken, name, decoder):
    with pytest.raises(VideoDecodingError, match=UNREADABLE[name]) as caught:
        decode_video(broken[name], [0], decoder=decoder)
    assert caught.value.source == str(broken[name])
    assert str(broken[name]) in str(caught.value) and caught.value.cause


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_anywhere_is_noticed_by_full_verification(broken, name):
    with pytest.raises(VideoDecodingError) as caught:
        decode_video(broken[name], [0], verify="full")  # only the first frame, which is intact
    assert caught.value.source == str(broken[name]) and str(broken[name]) in str(caught.value)


@pytest.mark.parametrize("name", ["zeroed_middle", "scattered_bytes"])
def test_damage_is_noticed_where_it_is_read(broken, name):
    frames, metadata = decode_video(broken[name], [0, 3])  # before the damage
    assert numbers(frames) == [0, 3] and metadata.total_num_frames == NUM_FRAMES
    with pytest.raises(VideoDecodingError, match=name):
        decode_video(broken[name], [0, NUM_FRAMES - 1])


# Sources


def test_bytes_and_file_objects(sparse, tmp_path):
    data = sparse.read_bytes()
    padded = tmp_path / "padded.bin"
    padded.write_bytes(b"12345" + data)
    with open(padded, "rb") as file:
        file.seek(5)
        assert numbers(decode_video(file, [7, 3])[0]) == [7, 3]
        assert not file.closed
    for source in (data, bytearray(data), memoryview(data), io.BytesIO(data), str(sparse), Path(sparse)):
        assert numbers(decode_video(source, [7, 3])[0]) == [7, 3]


def test_file_names_are_not_protocols(sparse, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("concat:a.mp4").write_bytes(sparse.read_bytes())
    assert numbers(decode_video("concat:a.mp4", [9])[0]) == [9]


# Arguments


@pytest.mark.parametrize(
    ("indices", "error"),
    [
        *(([], ValueError), ([3, -1], ValueError)),
        *((indices, TypeError) for indices in ([1.0], [True], ["1"], "12", 5, None, np.array([[1, 2]]), np.array(3))),
        *((indices, TypeError) for indices in (torch.tensor([0.5]), torch.tensor(3))),
    ],
)
def test_bad_indices(sparse, indices, error):
    with pytest.raises(error, match="frame numbers|not iterable"):
        decode_video(sparse, indices)


@pytest.mark.parametrize(
    "indices", [[2, 1], range(2, 0, -1), iter([2, 1]), torch.tensor([2, 1]), np.array([2, 1], np.uint8)]
)
def test_good_indices(sparse, indices):
    frames, metadata = decode_video(sparse, indices)
    assert numbers(frames) == [2, 1] and metadata.frames_indices == [2, 1]


@pytest.mark.parametrize("decoder", BACK_ENDS)
def test_an_index_beyond_the_end(sparse, decoder):
    for indices in ([0, NUM_FRAMES], [NUM_FRAMES]):
        with pytest.raises(IndexError, match=f"frame {NUM_FRAMES} .*{sparse.name} has {NUM_FRAMES} frames"):
            decode_video(sparse, indices, decoder=decoder)


def test_bad_sources_and_decoders(sparse):
    with pytest.raises(ValueError, match="'opencv'.*torchcodec"):
        decode_video(sparse, [0], decoder="opencv")
    with pytest.raises(ValueError, match="on_damage"):
        decode_video(sparse, [0], decoder="decord", on_damage="skip")
    with open(sparse, encoding="latin-1") as file, pytest.raises(TypeError, match="binary"):
        decode_video(file, [0])


@pytest.mark.parametrize("decoder", ["torchcodec", "decord"])
def test_a_decoder_that_is_not_installed(sparse, decoder, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchcodec.decoders" if decoder == "torchcodec" else "decord", None)
    with pytest.raises(ImportError, match=f"pip install {decoder}"):
        decode_video(sparse, [0], decoder=decoder)


# Copies of errors, leaks


def test_the_error_survives_pickling_and_copying(broken):
    with pytest.raises(VideoDecodingError) as caught:
        decode_video(broken["garbage"], [0])
    for twin in (pickle.loads(pickle.dumps(caught.value)), copy.copy(caught.value), copy.deepcopy(caught.value)):
        assert type(twin) is VideoDecodingError and str(twin) == str(caught.value)
        assert twin.source == str(broken["garbage"]) and twin.cause == caught.value.cause


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts in /proc")
def test_nothing_leaks(clip, broken):
    def held() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))

    def work(times: int):
        for _ in range(times):
            decode_video(clip("dense_keyframes.mp4"), [0, 9])
            for name in ("zeroed_middle", "garbage", "truncated"):
                with pytest.raises(VideoDecodingError):
                    decode_video(broken[name], [47])

    work(2)
    gc.collect()  # what other tests left
    before = held()
    work(25)
    assert all(after <= first for after, first in zip(held(), before, strict=True))
