"""Source notebooks hold no outputs: python -m tests.clean_notebooks FILE... names those that do."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def unclean(path: Path) -> list[str]:
    """What of a source notebook differs from run to run: outputs, counts, the ids of cells."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    found = []
    for k, cell in enumerate(cells):
        if cell.get("outputs") or cell.get("execution_count") is not None:
            found.append(f"{path}: clear the outputs of {cell['id']}")
        if cell["id"] != f"cell-{k}":
            found.append(f"{path}: call the cell {cell['id']} cell-{k}")
    return found


if __name__ == "__main__":
    sys.exit("\n".join(found for name in sys.argv[1:] for found in unclean(Path(name))) or 0)
