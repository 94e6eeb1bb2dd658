"""Pictures of high dynamic range (HLG and PQ of ITU-R BT.2100) as a screen of BT.709 shows them."""

from functools import cache

import numpy as np


TRANSFERS = {16: "smpte2084", 18: "arib-std-b67"}  # FFmpeg's numbers and names: PQ and HLG
WHITE = 203.0  # cd/m² of paper in a scene (ITU-R BT.2408), which becomes the white of BT.709
PEAK = 1000.0  # cd/m² of the screen that HLG is shown on
KNEE = 0.95  # of the signal: what is brighter is compressed
TO_BT709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32)


def light_of(signal: np.ndarray, transfer: str) -> np.ndarray:
    """Light in cd/m² of RGB signals `[..., 3]` in 0 … 1."""
    if transfer == "smpte2084":
        power = signal ** (32 / 2523)
        return 10_000 * ((power - 0.8359375).clip(0) / (18.8515625 - 18.6875 * power)) ** (8192 / 1305)
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - 0.55991073) / 0.17883277) + 0.28466892) / 12)
    luminance = scene @ np.array([0.2627, 0.678, 0.0593], scene.dtype)
    return PEAK * luminance[..., None] ** 0.2 * scene


def bt709_of(light: np.ndarray) -> np.ndarray:
    """Signals of BT.709 in 0 … 1 for light of BT.2020 in cd/m²."""
    signal = (light / WHITE @ TO_BT709.T).clip(0) ** (1 / 2.4)
    room = 1 - KNEE
    return np.where(signal > KNEE, 1 - room * np.exp(np.minimum(KNEE - signal, 0) / room), signal)


@cache
def _table(transfer: str) -> np.ndarray:
    """Pixels for each signal of seven bits, at `red << 14 | green << 7 | blue`; of four bytes, which is faster."""
    steps = (np.arange(128, dtype=np.float32) + 0.5) / 128
    signal = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    pixels = (255 * bt709_of(light_of(signal, transfer)) + 0.5).astype(np.uint8)
    return np.pad(pixels, ((0, 0), (0, 1))).view(np.uint32)[:, 0]


def tone_mapped(signal: np.ndarray, transfer: str) -> np.ndarray:
    """A picture `[H, W, 3]` of 16 bits as one of BT.709 with 8 bits."""
    red, green, blue = (signal[..., channel].astype(np.int32) >> 9 for channel in range(3))
    return _table(transfer).take(red << 14 | green << 7 | blue)[..., None].view(np.uint8)[..., :3]
