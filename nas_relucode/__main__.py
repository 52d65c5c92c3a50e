"""The programme `nas-relucode`, or `python -m nas_relucode`; Ctrl-C ends it with one line, even during its imports."""

import atexit
import gc
import signal
import sys


def main() -> int:
    """Runs the command line on the programme's arguments and returns the exit code."""
    atexit.register(gc.freeze)  # at its end Python need not collect what is left
    try:
        from nas_relucode.cli.main import main as command_line

        code = command_line()
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # the work is done: no traceback of Python's shutdown
        return code
    except KeyboardInterrupt:
        if "--debug" in sys.argv:
            raise
        from nas_relucode.cli.printing import INTERRUPTED, print_message

        print_message(INTERRUPTED)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
