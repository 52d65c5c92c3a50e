"""The programme, `nas-relucode` or `python -m nas_relucode`: Ctrl-C ends it in one line, also while it is imported."""

import signal
import sys


def main() -> int:
    """Runs the command line on the programme's arguments and returns the exit code."""
    try:
        from nas_relucode.cli.main import main as command_line

        code = command_line()
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # all is done: Python would show where in its own end it was
        return code
    except KeyboardInterrupt:
        if "--debug" in sys.argv:
            raise
        from nas_relucode.cli.printing import INTERRUPTED, print_message

        print_message(INTERRUPTED)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
