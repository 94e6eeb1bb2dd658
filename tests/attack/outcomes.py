"""What attacks end in: counted outcomes, defects with their seeds, one report."""

import json
import platform
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


MAX_MESSAGE = 5000  # characters of a message that counts as bounded
MAX_DEFECTS = 20  # kept with their tracebacks


@dataclass
class Outcomes:
    """
    The outcomes of one machine.

    Attributes:
        machine: its name.
        counts: how often each expected outcome came.
        defects: what should not have come, each with what repeats it.
        seconds: time of all attacks.
        slowest: seconds of the slowest attack, and its name.
    """

    machine: str
    counts: Counter = field(default_factory=Counter)
    defects: list[str] = field(default_factory=list)
    num_defects: int = 0
    seconds: float = 0.0
    slowest: tuple[float, str] = (0.0, "")

    def defect(self, name: str, what: str) -> None:
        self.num_defects += 1
        if len(self.defects) < MAX_DEFECTS:
            self.defects.append(f"{name}: {what}"[:3000])

    def attack(
        self, name: str, action: Callable[[], Any], expected: tuple[type[Exception], ...], success: str | None = "fine"
    ) -> None:
        """
        Runs one attack.

        Args:
            name: repeats it.
            action: returns the name of its outcome or anything else, which is called `success`.
            expected: the documented errors.
            success: what to call an end without an error; None makes it a defect.
        """
        started = time.perf_counter()
        try:
            result = action()
            outcome = result if isinstance(result, str) else success
            if outcome is None:
                self.defect(name, "no error")
            else:
                self.counts[outcome] += 1
        except expected as error:
            self.counts[type(error).__name__] += 1
            if len(str(error)) > MAX_MESSAGE:
                self.defect(name, f"a message of {len(str(error)):,} characters")
        except Exception as error:
            self.defect(name, f"{type(error).__name__}: {str(error)[:300]}\n{''.join(traceback.format_exc()[-1500:])}")
        seconds = time.perf_counter() - started
        self.seconds += seconds
        self.slowest = max(self.slowest, (seconds, name))

    def joined(self, other: "Outcomes") -> "Outcomes":
        """The outcomes of both as one."""
        return Outcomes(
            self.machine,
            self.counts + other.counts,
            (self.defects + other.defects)[:MAX_DEFECTS],
            self.num_defects + other.num_defects,
            self.seconds + other.seconds,
            max(self.slowest, other.slowest),
        )

    def as_dict(self) -> dict[str, Any]:
        return {
            "machine": self.machine,
            "attacks": sum(self.counts.values()) + self.num_defects,
            "outcomes": dict(self.counts.most_common()),
            "defects": self.num_defects,
            "first_defects": self.defects,
            "seconds": round(self.seconds, 1),
            "slowest": {"seconds": round(self.slowest[0], 2), "attack": self.slowest[1]},
        }


def table(outcomes: Iterable[Outcomes]) -> str:
    """The figures as a Markdown table."""
    lines = ["| machine | attacks | outcomes | defects | seconds | slowest |", "|---|---|---|---|---|---|"]
    for found in outcomes:
        about = found.as_dict()
        ends = ", ".join(f"{name} {count:,}" for name, count in about["outcomes"].items())
        lines.append(
            f"| {found.machine} | {about['attacks']:,} | {ends} | {found.num_defects} | {about['seconds']} | "
            f"{about['slowest']['seconds']} s |"
        )
    return "\n".join(lines)


def write_report(folder: Path, outcomes: list[Outcomes], command: str, minutes: float) -> None:
    """Writes `report.json`."""
    from vitaclip_hf.model.version import package_versions

    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "command": command,
        "minutes": round(minutes, 1),
        "machine": f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}",
        "versions": package_versions(),
        "machines": [found.as_dict() for found in outcomes],
    }
    (folder / "report.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
