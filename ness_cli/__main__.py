"""``python -m ness_cli`` is ``ness``."""

from ness_cli.cli.app import main

if __name__ == "__main__":
    main()
