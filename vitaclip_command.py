"""The `vitaclip` command. It is outside the package, whose import loads torch and transformers; help needs neither."""


def main() -> int:
    from vitaclip_hf.cli.main import main as run

    return run()
