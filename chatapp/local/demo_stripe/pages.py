"""What the pages of the demo Stripe share: one frame that says what it is, money, and the way back."""

from datetime import UTC, datetime
from decimal import Decimal
from html import escape
from pathlib import Path
from string import Template

from aiohttp import web

FOLDER = Path(__file__).parent
FRAME = Template((FOLDER / "page.html").read_text())
WITHOUT_CENTS = {"clp", "jpy", "krw", "vnd"}


def template(name: str) -> Template:
    return Template((FOLDER / name).read_text())


def html(main: str, *, title: str, status: int = 200) -> web.Response:
    """`main` is HTML, `title` is text."""
    return web.Response(
        text=FRAME.substitute(main=main, title=escape(title)),
        status=status,
        content_type="text/html",
        headers={
            "Cache-Control": "no-store",
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
            "frame-ancestors 'none'; base-uri 'none'",
        },
    )


def not_here(what: str) -> web.Response:
    return html(f'<main class="paper"><h1>There is no such {what}</h1></main>', title="not found", status=404)


def see(url: str) -> web.Response:
    return web.Response(status=303, headers={"Location": url})


def money(amount: int, currency: str) -> str:
    value = Decimal(amount) if currency in WITHOUT_CENTS else Decimal(amount).scaleb(-2)
    return f"${value:,}" if currency == "usd" else f"{value:,} {escape(currency.upper())}"


def day(at: int) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%d %b %Y}"
