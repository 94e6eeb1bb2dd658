"""Videos whose frames have any time stamps."""

from fractions import Fraction

import av
import numpy as np


def write_stamped(
    file, stamps, container="matroska", audio_from: float | None = None, length: int = 0, codec: str = "mpeg4"
) -> None:
    """
    A video whose frames have these stamps in hundredths of a second, and state this length, perhaps beside silence from
    another moment.
    """
    with av.open(str(file), "w", format=container) as output:
        stream = output.add_stream(codec, rate=100, options={"bf": "0"})
        stream.width, stream.height, stream.time_base = 32, 32, Fraction(1, 100)
        stream.codec_context.time_base = Fraction(1, 100)
        sound = output.add_stream("pcm_s16le", rate=8000) if audio_from is not None else None
        if sound is not None:
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
            samples.rate, samples.pts, samples.time_base = 8000, round(audio_from * 8000), Fraction(1, 8000)
            output.mux(sound.encode(samples))
        for number in range(len(stamps) + 1):
            picture = av.VideoFrame.from_ndarray(np.full((32, 32, 3), number, np.uint8))
            picture.pts, picture.time_base = number, Fraction(1, 100)
            for packet in stream.encode(picture if number < len(stamps) else None):
                packet.pts = packet.dts = stamps[packet.pts]
                packet.duration = length or packet.duration
                output.mux(packet)
