"""When a paid period ends: a calendar month after its start, on the day of the month it was bought on."""

import calendar
from datetime import UTC, datetime, timedelta

DAYS = {"day": 1, "week": 7}
MONTHS = {"month": 1, "year": 12}


def end_of(start: int, interval: str, count: int, *, anchor: int) -> int:
    """`count` intervals after `start`. A period that was bought on the 31st ends on a month's last day, and later
    on the 31st again: that is what `anchor`, the first start of all, is for."""
    begun = datetime.fromtimestamp(start, UTC)
    if interval in DAYS:
        return int((begun + timedelta(days=DAYS[interval] * count)).timestamp())
    months = begun.year * 12 + begun.month - 1 + MONTHS[interval] * count
    year, month = months // 12, months % 12 + 1
    day = min(datetime.fromtimestamp(anchor, UTC).day, calendar.monthrange(year, month)[1])
    return int(begun.replace(year=year, month=month, day=day).timestamp())
