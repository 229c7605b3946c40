"""The command `cmb-lightning`, also as `python -m cmb_lightning`.

Worker processes import this module before they work: it must stay light, so the rest is imported when the command runs.
"""

import sys


def main() -> None:
    """Run the command."""
    try:
        from cmb_lightning.cli import main as run
    except KeyboardInterrupt:  # importing takes seconds
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
