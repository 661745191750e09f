"""The tokens %date:FORMAT% and %Node.widget% of file names.

ComfyUI's page replaces them for its own nodes only. Those like %year% and %width% are left to ComfyUI's server.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

_DATE_PARTS = {"d": "day", "M": "month", "h": "hour", "m": "minute", "s": "second"}
_FORBIDDEN = re.compile(r'[/?<>\\:*|"\x00-\x1f\x7f]')


def with_tokens_replaced(prefix: str, prompt: Any, workflow: Any) -> str:
    """Return a prefix with the tokens replaced that can be; the others stay as they are.

    Args:
        prefix: what the user typed.
        prompt: ComfyUI's prompt, nodes by id; None where there is none.
        workflow: the page's workflow; None where there is none.
    """
    def replacement(match: re.Match[str]) -> str:
        token = match[1]
        if token.startswith("date:"):
            return _date(token.removeprefix("date:"), datetime.now())
        node, dot, widget = token.rpartition(".")
        value = _inputs(node, prompt or {}, workflow or {}).get(widget) if dot else None
        # A list is a link to another node: there is no value to show.
        return match[0] if value is None or isinstance(value, list) else _FORBIDDEN.sub("_", _text(value))

    return re.sub("%([^%]+)%", replacement, prefix)


def _date(pattern: str, now: datetime) -> str:
    """Return a date as ComfyUI's page writes it: d, M, h, m, s, one or two digits each, yy and yyyy."""
    def part(match: re.Match[str]) -> str:
        name = match[0]
        if name[0] == "y":
            return f"{now.year:04}"[-len(name):] if len(name) in (2, 4) else name
        return f"{getattr(now, _DATE_PARTS[name[0]]):0{len(name)}}"

    return re.sub("dd?|MM?|hh?|mm?|ss?|yyy?y?", part, pattern)


def _inputs(name: str, prompt: Mapping[str, Any], workflow: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the inputs of the first node of a name: its name for search and replace, its title, or its type."""
    named = [str(node.get("id")) for node in workflow.get("nodes", ())
             if (node.get("properties") or {}).get("Node name for S&R") == name]
    titled = [key for key, node in prompt.items() if node.get("_meta", {}).get("title") == name]
    typed = [key for key, node in prompt.items() if node.get("class_type") == name]
    found = next((key for key in (*named, *titled, *typed) if key in prompt), None)
    inputs: Mapping[str, Any] = prompt[found]["inputs"] if found else {}
    return inputs


def _text(value: Any) -> str:
    """Return a widget's value as the page writes it: 30 and true for 30.0 and True."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.0f}" if isinstance(value, float) and value.is_integer() else str(value)
