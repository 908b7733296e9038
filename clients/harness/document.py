"""The documents' own examples, so that what is tested is what is printed."""

import re

from .server import REPOSITORY_ROOT


def examples(name):
    """The code blocks of docs/NAME that follow `<!-- tested: WHAT -->`, by that word."""
    text = (REPOSITORY_ROOT / "docs" / name).read_text()
    found = re.findall(r"^<!-- tested: (\S+) -->\n```\w+\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found, f"docs/{name} has no tested examples"
    return dict(found)
