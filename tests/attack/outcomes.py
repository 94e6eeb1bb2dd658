"""Attacks, and what they end in: counted outcomes, and defects with what repeats them."""

import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple


MAX_MESSAGE = 5000  # characters of a message that counts as bounded


class Attack(NamedTuple):
    """
    One attack.

    Attributes:
        name: repeats it.
        action: returns the name of its outcome or anything else, which is called `success`.
        expected: the documented errors.
        success: what to call an end without an error; None makes it a defect.
    """

    name: str
    action: Callable[[], Any]
    expected: tuple[type[Exception], ...] = ()
    success: str | None = "fine"

    def outcome(self) -> str:
        """Runs it; raises for a defect."""
        try:
            result = self.action()
        except self.expected as error:
            if len(str(error)) > MAX_MESSAGE:
                raise AssertionError(f"a message of {len(str(error)):,} characters") from None
            return type(error).__name__
        outcome = result if isinstance(result, str) else self.success
        if outcome is None:
            raise AssertionError("no error")
        return outcome


@dataclass
class Outcomes:
    """
    The outcomes of one machine.

    Attributes:
        counts: how often each expected outcome came.
        defects: what should not have come, each with what repeats it.
        seconds: time of all attacks.
    """

    counts: Counter = field(default_factory=Counter)
    defects: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def run(self, attacks: Iterable[Attack]) -> "Outcomes":
        """Runs the attacks one after the other, each before the next is made."""
        started = time.perf_counter()
        for attack in attacks:
            try:
                self.counts[attack.outcome()] += 1
            except Exception as error:
                self.defects.append(f"{attack.name}: {error!r:.300}\n{traceback.format_exc()[-1500:]}")
                print(f"  defect: {self.defects[-1]}", flush=True)
        self.seconds += time.perf_counter() - started
        return self

    def as_dict(self) -> dict[str, Any]:
        attacks = self.counts.total() + len(self.defects)
        rest = {"outcomes": dict(self.counts.most_common()), "defects": self.defects, "seconds": round(self.seconds, 1)}
        return {"attacks": attacks} | rest
