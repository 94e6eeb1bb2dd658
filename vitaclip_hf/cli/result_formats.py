"""The output formats of `vitaclip classify`. Each video is written as soon as it is classified.

A row is `{"video": str, "answer": str, "scores": [{"label": str, "score": float, "cosine": float}, …], "activation":
str, "frames": [int, …], "times": [float, …], "dtype": str}`, best label first, with `"reason"` if the answer is none of
the labels; or `{"video": str, "error": str}`.
"""

import csv
import json
from collections.abc import Callable, Iterable
from typing import Any, Literal, TextIO

from ..data.output_files import csv_text
from ..model.shown_names import shown


Format = Literal["table", "json", "jsonl", "csv"]
ENDINGS: dict[str, Format] = {".json": "json", ".jsonl": "jsonl", ".csv": "csv", ".txt": "table"}
Rows = Iterable[dict[str, Any]]
FIELDS = ("video", "rank", "label", "score", "cosine", "answer", "error")
BAR = 30  # characters of a score of 1


def write_table(rows: Rows, file: TextIO) -> None:
    for row in rows:
        file.write(f"{shown(row['video'])}\n")
        if "reason" in row:
            file.write(f"  {shown(row['answer'])} ({row['reason']})\n")
        labels = [shown(score["label"]) for score in row.get("scores", ())]
        width = max(map(len, labels), default=0)
        for score, label in zip(row.get("scores", ()), labels, strict=True):
            bar = "█" * round(score["score"] * BAR)
            file.write(f"  {score['score']:6.1%}  {label:<{width}}  {bar}".rstrip() + "\n")
        if "error" in row:
            file.write(f"  error: {shown(row['error'])}\n")
        file.write("\n")
        file.flush()


def write_json_rows(rows: Rows, file: TextIO) -> None:
    before = "[\n"
    for row in rows:
        file.write(before + json.dumps(row, ensure_ascii=False))
        before = ",\n"
    file.write("\n]\n")


def write_jsonl(rows: Rows, file: TextIO) -> None:
    for row in rows:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")
        file.flush()


def write_csv(rows: Rows, file: TextIO) -> None:
    writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        for rank, score in enumerate(row.get("scores", ()), start=1):
            names = {"video": row["video"], "label": score["label"], "answer": row["answer"]}
            writer.writerow(score | {"rank": rank} | {name: csv_text(text) for name, text in names.items()})
        if "error" in row:
            writer.writerow({name: csv_text(row[name]) for name in ("video", "error")})
        file.flush()


WRITERS: dict[Format, Callable[[Rows, TextIO], None]] = {
    "table": write_table,
    "json": write_json_rows,
    "jsonl": write_jsonl,
    "csv": write_csv,
}
