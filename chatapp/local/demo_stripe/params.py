"""Form-encoded parameters as Stripe nests them: `line_items[0][price_data][currency]=usd`."""

import re
from collections.abc import Iterable
from typing import Any

from chatapp.local.demo_stripe.refusals import Refusal, invalid, missing, unknown

PART = re.compile(r"\[([^\[\]]*)\]")


def decode(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Nested dicts and lists of strings; `a[0]=x`, `a[1]=y` and `a[]=x` make lists."""
    root: dict[str, Any] = {}
    for name, value in pairs:
        head, bracket, _ = name.partition("[")
        path = [head, *PART.findall(name[len(head) :])] if bracket else [name]
        node = root
        for part in path[:-1]:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise invalid(name, f"Invalid parameters: {name} is both a value and a hash.")
        last = path[-1] or str(len(node))
        node[last] = value
    return {name: _lists(value) for name, value in root.items()}


def _lists(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    if all(key.isdecimal() for key in node):
        return [_lists(node[key]) for key in sorted(node, key=int)]
    return {key: _lists(value) for key, value in node.items()}


class Params:
    """One request's parameters, taken one by one: what nobody took is unknown, as with Stripe."""

    def __init__(self, values: dict[str, Any], prefix: str = "") -> None:
        self._left = dict(values)
        self._prefix = prefix

    def name(self, name: str) -> str:
        return f"{self._prefix}[{name}]" if self._prefix else name

    def text(self, name: str, *, longest: int = 5000) -> str | None:
        value = self._left.pop(name, None)
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            raise invalid(self.name(name), "Invalid string")
        if len(value) > longest:
            raise invalid(self.name(name), f"Invalid string: must be at most {longest} characters")
        return value

    def required(self, name: str) -> str:
        value = self.text(name)
        if value is None:
            raise missing(self.name(name))
        return value

    def url(self, name: str) -> str | None:
        value = self.text(name)
        if value is not None and not re.match(r"https?://", value):
            raise Refusal(
                400,
                "Not a valid URL. URLs must begin with http or https.",
                code="url_invalid",
                param=self.name(name),
            )
        return value

    def integer(self, name: str) -> int | None:
        value = self.text(name)
        if value is None:
            return None
        if not re.fullmatch(r"-?\d{1,15}", value):
            raise Refusal(
                400, f"Invalid integer: {value}", code="parameter_invalid_integer", param=self.name(name)
            )
        return int(value)

    def boolean(self, name: str) -> bool:
        return bool(self.flag(name))

    def flag(self, name: str, *, default: bool | None = None) -> bool | None:
        """True, false, or `default` if nothing was said."""
        value = self.text(name)
        if value not in {None, "true", "false"}:
            raise invalid(self.name(name), f"Invalid boolean: {value}")
        return default if value is None else value == "true"

    def strings(self, name: str) -> list[str]:
        value = self._left.pop(name, [])
        return [value] if isinstance(value, str) else [str(item) for item in value]

    def hash(self, name: str) -> "Params | None":
        value = self._left.pop(name, None)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise invalid(self.name(name), "Invalid object")
        return Params(value, self.name(name))

    def hashes(self, name: str) -> list["Params"]:
        value = self._left.pop(name, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise invalid(self.name(name), "Invalid array")
        return [Params(item, f"{self.name(name)}[{index}]") for index, item in enumerate(value)]

    def metadata(self, name: str = "metadata") -> dict[str, str]:
        """Stripe's limits: 50 keys of 40 characters, values of 500."""
        given = self.hash(name)
        if given is None:
            return {}
        found = {key: given.text(key, longest=500) or "" for key in list(given._left)}
        if len(found) > 50 or any(len(key) > 40 for key in found):
            raise invalid(self.name(name), "Metadata has at most 50 keys of at most 40 characters")
        return found

    def no_more(self) -> None:
        """Refuse what was given and not asked for."""
        for name in self._left:
            raise unknown(self.name(name))
