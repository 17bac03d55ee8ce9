"""Reading pages, and what every page of ours must keep to."""

import re
from email.message import Message

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.http import HttpResponse

OURS = str(settings.BASE_DIR / "templates")


def read(answer: HttpResponse, *, status: int = 200) -> str:
    """The page's HTML, after seeing that it is one of ours and that the content security policy lets it work."""
    html = answer.content.decode()
    assert answer.status_code == status, f"{answer.status_code} {answer.get('Location', '')} {html[:500]}"
    foreign = [
        template.origin.name
        for template in answer.templates
        if template.origin
        and not template.origin.name.startswith(OURS)
        and "/forms/" not in template.origin.name
    ]
    assert not foreign, f"from templates that are not ours: {foreign}"
    assert not re.search(r"<[^>]+\sstyle=", html), "a style attribute"
    assert not re.search(r"<[^>]+\son\w+=", html), "an inline event handler"
    policy = answer.headers["Content-Security-Policy"]
    for tag in re.findall(r"<script[^>]*>", html):
        nonce = re.search(r'nonce="([^"]+)"', tag)
        assert 'type="application/json"' in tag or (nonce and f"'nonce-{nonce[1]}'" in policy), tag
    return html


def link_in(mail: EmailMultiAlternatives, containing: str) -> str:
    """The path of the link in a mail's text; its HTML must lead to the same place."""
    link = re.search(rf"https?://testserver(\S*{containing}\S*)", mail.body)
    assert link, mail.body
    assert link[0] in html_of(mail)
    return link[1]


def code_in(mail: EmailMultiAlternatives) -> str:
    """The code that stands on a line of its own in a mail's text, and in its HTML."""
    code = re.search(r"^[A-Z0-9-]{6,12}$", mail.body, re.MULTILINE)
    assert code, mail.body
    assert code[0] in html_of(mail)
    return code[0]


def html_of(mail: EmailMultiAlternatives) -> str:
    message: Message = mail.message()
    parts = [part for part in message.walk() if part.get_content_type() == "text/html"]
    assert parts, "no HTML"
    payload = parts[0].get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload.decode()
