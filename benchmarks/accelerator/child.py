"""One part, in a process of its own: `python -m benchmarks.accelerator.child PART MACHINE`."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path

from benchmarks import absent
from benchmarks.accelerator.parts import PARTS, Machine
from eval import whole


def main() -> int:
    """Measures the part that is named and writes its rows to OUT/PART.json as they come."""
    threading.Thread(target=_die_with_parent, daemon=True).start()
    name, about = sys.argv[1], json.loads(sys.argv[2])
    machine = Machine(about["memory"], Path(about["out"]), about["rehearsal"])
    part, file = PARTS[name], machine.out / f"{name}.json"
    if missing := absent.lacking(part.needs):
        whole.write_text(file, json.dumps({"rows": [], "skipped": f"{', '.join(missing)} not installed"}))
        return 0
    for rows in part.tables(machine):
        whole.write_text(file, json.dumps({"rows": rows}, indent=1))
    return 0


def _die_with_parent() -> None:
    """Ends this part's processes when the command ends, even by SIGKILL: it holds the other end of our input."""
    os.read(sys.stdin.fileno(), 1)  # returns once nobody can write
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
