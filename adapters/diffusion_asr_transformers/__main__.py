"""``python -m diffusion_asr_transformers SCRIPT …``: run a transformers script that does not know us.

The script finds our models as if it had imported ``diffusion_asr_transformers`` itself.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import diffusion_asr_transformers

USAGE = f"""usage: python -m diffusion_asr_transformers SCRIPT [its arguments]

Runs a Python script for transformers, unmodified, with this package's models known to it.
Give it, as its model, the folder of a saved model or that of the embedded one:
  {diffusion_asr_transformers.CANVAS_BASE}
"""


def main() -> int:
    """Run the script; its own exit code is the process's."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        (sys.stdout if arguments else sys.stderr).write(USAGE)
        return 0 if arguments else 2
    script = Path(arguments[0])
    if not script.is_file():
        sys.stderr.write(f"{script}: there is no such script\n")
        return 2
    sys.argv = arguments
    sys.path.insert(0, str(script.resolve().parent))  # as python SCRIPT has it
    runpy.run_path(str(script), run_name="__main__")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
