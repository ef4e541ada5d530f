"""Many dry runs of Snakemake in one process, which saves the start of all but the first."""

import contextlib
import io
import json
import subprocess
import sys


def run_all(commands, cwd):
    """Exit status and output of each command, a list of arguments of `snakemake`."""
    child = [sys.executable, __file__]
    result = subprocess.run(child, cwd=cwd, input=json.dumps(commands), capture_output=True, text=True, timeout=600)
    if result.returncode:
        raise AssertionError(result.stderr)
    return [tuple(outcome) for outcome in json.loads(result.stdout)]


def _run(arguments):
    from snakemake.cli import main

    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
        try:
            main(arguments)
            status = 0
        except SystemExit as end:
            status = end.code
    return status, told.getvalue()


if __name__ == "__main__":
    print(json.dumps([_run(arguments) for arguments in json.load(sys.stdin)]))
