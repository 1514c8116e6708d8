"""The command `sqlvmbackup`, also as `python -m cli`; one sentence where a package that it needs is not installed."""

import sys

_OWN = ("cli", "local", "functions", "shared")


def main() -> int:
    """Run the command; returns its exit status, which is 2 where a package is missing."""
    try:
        from cli.main import main as run

        return run()
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in _OWN:
            raise
        print(
            f"sqlvmbackup: the package {package} is not installed for {sys.executable}: install what the command needs"
            " with `make setup`, or with `pip install .` in its folder.",
            file=sys.stderr,
        )
        return 2


if __name__ == "__main__":
    sys.exit(main())
