"""What a report needs to be imported, which takes longer than a small study's report."""

import subprocess
import sys


def test_select_and_report_start_without_torch():
    """... whose import takes seconds and half a GiB."""
    code = "import nas_relucode.cli.report, nas_relucode.cli.select, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
