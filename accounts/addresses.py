"""Where a request comes from, as limits count it."""

import ipaddress

from django.conf import settings
from django.http import HttpRequest

UNKNOWN = "unknown"


def client_address(request: HttpRequest) -> str:
    """The address of whoever sent `request`, in its usual spelling; UNKNOWN where there is none.

    Each of TRUSTED_PROXIES adds to X-Forwarded-For whom it talks to, so so many entries from its end are true. What
    stands before them anybody could have written, and is not looked at.
    """
    proxies: int = settings.TRUSTED_PROXIES
    hops = request.headers.get("X-Forwarded-For", "").split(",") if proxies else []
    claimed = _address(hops[-proxies]) if proxies and len(hops) >= proxies else None
    address = claimed or _address(request.META.get("REMOTE_ADDR", ""))
    return str(address) if address else UNKNOWN


def client_network(request: HttpRequest) -> str:
    """What `request` is counted under: its IPv4 address, or the /64 of which a person has every IPv6 address."""
    address = client_address(request)
    if ":" not in address:
        return address
    return str(ipaddress.IPv6Network((address, 64), strict=False))


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An address as proxies write it: bare, with a port, or in brackets."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        # A zone tells one's own networks apart, and anybody can make up as many as they like.
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
