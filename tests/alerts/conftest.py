"""A mail server on loopback, that alerts really arrive at."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes
from email.header import decode_header, make_header
from typing import Any

import pytest
from aiosmtpd.controller import Controller


@dataclass
class Mail:
    """One mail: to whom, subject, and text."""

    to: tuple[str, ...]
    subject: str
    text: str


class Mailbox:
    """Keeps what a mail server gets."""

    def __init__(self) -> None:
        self.mails: list[Mail] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802  (aiosmtpd's name)
        mail = message_from_bytes(envelope.content)
        parts = [part for part in mail.walk() if part.get_content_type().startswith("text/")]
        text = (parts[0].get_payload(decode=True) or b"").decode()
        self.mails.append(
            Mail(tuple(envelope.rcpt_tos), str(make_header(decode_header(mail["Subject"]))), text)
        )
        return "250 OK"


@pytest.fixture
def mailbox() -> Iterator[tuple[Mailbox, str]]:
    """A mail server; its Apprise URL for one recipient, to which more can be added."""
    box = Mailbox()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    yield box, f"mailto://127.0.0.1:{port}/?smtp=127.0.0.1&mode=insecure&from=endpoints@example.com&to="
    controller.stop()
