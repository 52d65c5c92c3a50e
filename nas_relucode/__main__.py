"""`python -m nas_relucode` is the command line."""

from nas_relucode.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
