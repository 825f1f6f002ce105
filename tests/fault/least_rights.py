"""The rights that docs/security.md gives, for another service than its example."""

import json
import re
from pathlib import Path
from typing import Any

PAGE = (Path(__file__).parents[2] / "docs" / "security.md").read_text()


def rights_of(user: str, service: str) -> list[str]:
    """The three expressions that the page gives a user of RabbitMQ."""
    row = re.search(rf"^\| {user}.*$", PAGE, re.MULTILINE)
    assert row, user
    expressions = re.findall(r"`(\^[^`]*)`", row[0])
    assert len(expressions) == 3
    return [one.replace("bank", service).replace("\\|", "|") for one in expressions]


def role_of(service: str) -> dict[str, Any]:
    """The role that the page gives a user of MongoDB."""
    found = re.search(r"```json\n(\{.*?\n\})\n```", PAGE, re.DOTALL)
    assert found
    role: dict[str, Any] = json.loads(found[1].replace('"bank"', f'"{service}"'))
    return role
