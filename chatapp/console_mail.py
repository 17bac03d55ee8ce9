"""Mails of a machine without a mail server: their text is printed, for whoever follows the links in it."""

from django.core.mail import EmailMessage
from django.core.mail.backends.console import EmailBackend

RULE = "-" * 79


class TextBackend(EmailBackend):
    """Prints whom a mail is for, its subject and its text as it reads; not its HTML, nor how it would travel."""

    def write_message(self, message: EmailMessage) -> None:
        head = f"Mail to {', '.join(message.recipients())}: {message.subject}"
        self.stream.write(f"{RULE}\n{head}\n\n{str(message.body).strip()}\n{RULE}\n")
