"""Lists as Stripe gives them: filtered, newest first, a page at a time."""

from collections.abc import Callable, Iterable

from chatapp.local.demo_stripe.objects import Json
from chatapp.local.demo_stripe.params import Params
from chatapp.local.demo_stripe.refusals import invalid, no_such

_COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    "gt": lambda at, bound: at > bound,
    "gte": lambda at, bound: at >= bound,
    "lt": lambda at, bound: at < bound,
    "lte": lambda at, bound: at <= bound,
}


def matching(asked: Params, rows: Iterable[Json], *names: str) -> list[Json]:
    """The rows whose fields are what was asked for by the same names."""
    wanted = {name: value for name in names if (value := asked.text(name)) is not None}
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def page(asked: Params, oldest_first: list[Json], *, url: str) -> Json:
    """One page of a list, newest first, with Stripe's cursors and range of `created`; takes all that is left."""
    rows = list(reversed(oldest_first))
    limit = asked.integer("limit")
    limit = 10 if limit is None else limit
    if not 1 <= limit <= 100:
        raise invalid("limit", "limit must be between 1 and 100")
    created = asked.hash("created")
    if created:
        for name, fits in _COMPARISONS.items():
            bound = created.integer(name)
            if bound is not None:
                rows = [row for row in rows if fits(row["created"], bound)]
        created.no_more()
    after, before = asked.text("starting_after"), asked.text("ending_before")
    asked.no_more()
    ids = [row["id"] for row in rows]
    for name, cursor in (("starting_after", after), ("ending_before", before)):
        if cursor and cursor not in ids:
            raise no_such("object", cursor, param=name)
    if after:
        rows = rows[ids.index(after) + 1 :]
        shown = rows[:limit]
    elif before:
        rows = rows[: ids.index(before)]
        shown = rows[-limit:]
    else:
        shown = rows[:limit]
    return {"object": "list", "data": shown, "has_more": len(rows) > len(shown), "url": url}


def whole(rows: list[Json], *, url: str) -> Json:
    """A list inside another object."""
    return {"object": "list", "data": rows, "has_more": False, "url": url}
