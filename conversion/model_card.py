from pathlib import Path


def write_card(folder: Path, checkpoint: Path, repo_id: str, model, processor) -> None:
    (folder / "README.md").write_text(f"---\nlicense: apache-2.0\n---\n\n# {repo_id}\n")
