"""The commands that deploy/README.md tells people to type, so that page and test cannot drift apart."""

import re
from pathlib import Path
from typing import Final

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
UNITS: Final = sorted(path for path in DEPLOY.iterdir() if path.suffix in {".service", ".socket", ".target"})
TEXT: Final = (DEPLOY / "README.md").read_text(encoding="utf-8")
_BLOCK: Final = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(heading: str, language: str = "sh") -> list[str]:
    """Return the fenced blocks under `## heading`, in order."""
    _, _, rest = TEXT.partition(f"\n## {heading}\n")
    found = [text for kind, text in _BLOCK.findall(rest.partition("\n## ")[0]) if kind == language]
    assert found, f"deploy/README.md has no {language} under {heading!r}"
    return found
