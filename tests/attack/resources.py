"""What a long run holds while time goes by: memory, open files, threads, child processes, temporary files."""

import gc
import json
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import psutil


MEBIBYTE = 1 << 20
ROWS = 12  # of the table in the report


@dataclass(frozen=True)
class Sample:
    """
    What the process holds at one moment, between two rounds of attacks.

    Attributes:
        minutes: since the beginning.
        round: rounds that are over.
        memory, memory_of_children: resident mebibytes.
        open_files: file descriptors.
        threads, children: of this process; children of children too.
        temporary_files: entries of the folder for temporary files.
    """

    minutes: float
    round: int
    memory: float
    memory_of_children: float
    open_files: int
    threads: int
    children: int
    temporary_files: int


class ResourceLog:
    """
    Samples, one a round, each written at once as a line of JSON.

    Args:
        file (`Path`): where to write.
    """

    def __init__(self, file: Path):
        self.file = file
        self.samples: list[Sample] = []
        self._started = time.monotonic()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)

    def take(self, rounds: int) -> Sample:
        """Adds a sample."""
        gc.collect()
        own = psutil.Process()
        children = own.children(recursive=True)
        held = 0
        for child in children:
            with suppress(psutil.NoSuchProcess):
                held += child.memory_info().rss
        sample = Sample(
            round((time.monotonic() - self._started) / 60, 2),
            rounds,
            round(own.memory_info().rss / MEBIBYTE, 1),
            round(held / MEBIBYTE, 1),
            own.num_fds(),
            own.num_threads(),
            len(children),
            sum(1 for _ in Path(tempfile.gettempdir()).iterdir()),
        )
        self.samples.append(sample)
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(sample)) + "\n")
        return sample

    def growth(self) -> dict[str, float]:
        """Per hour, by the median slope between all pairs of samples after the first fifth, which fills caches."""
        settled = self.samples[len(self.samples) // 5 :]
        names = [field.name for field in fields(Sample)][2:]
        slopes: dict[str, float] = {}
        for name in names:
            found = sorted(
                60 * (getattr(late, name) - getattr(early, name)) / (late.minutes - early.minutes)
                for place, late in enumerate(settled)
                for early in settled[:place]
                if late.minutes > early.minutes
            )
            slopes[name] = round(found[len(found) // 2], 2) if found else 0.0
        return slopes

    def table(self) -> str:
        """Samples at even distances as a Markdown table, and the growth."""
        names = [field.name for field in fields(Sample)]
        last = len(self.samples) - 1
        chosen = sorted({round(last * row / (ROWS - 1)) for row in range(ROWS)}) if last > 0 else [0]
        lines = ["| " + " | ".join(name.replace("_", " ") for name in names) + " |", "|---" * len(names) + "|"]
        lines += ["| " + " | ".join(f"{getattr(self.samples[n], name):g}" for name in names) + " |" for n in chosen]
        growth = ", ".join(f"{name.replace('_', ' ')} {value:+g}" for name, value in self.growth().items())
        return "\n".join(lines) + f"\n\nGrowth per hour after the first fifth of the rounds: {growth}."
