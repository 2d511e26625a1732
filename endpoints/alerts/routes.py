"""Where messages go: the URLs of ENDPOINTS_ALERTS, through Apprise (https://github.com/caronc/apprise).

A URL may have a name, `growth=slack://…`, which endpoints choose by `alerts: [growth]`; those without one are
everybody else's. URLs hold tokens and passwords: outside this file they are known by name and number.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from endpoints.alerts.message import Message
from endpoints.settings import ROUTE, Settings

DEFAULT: Final = ""
APP: Final = "Query Endpoints"


@dataclass(frozen=True, slots=True)
class Target:
    """One URL. `id` tells it from others and is no secret."""

    route: str
    number: int
    url: str = field(repr=False)

    @property
    def id(self) -> str:
        return f"{self.route}/{self.number}"

    def __str__(self) -> str:
        """For people: `growth 1 (slack)`."""
        scheme = self.url.partition("://")[0]
        return f"{self.route or 'unnamed'} {self.number} ({scheme})"


Routes = Mapping[str, tuple[Target, ...]]


def read_routes(settings: Settings) -> Routes:
    """The targets by route; those of URLs without a name under `DEFAULT`."""
    found: dict[str, list[Target]] = {}
    for text in settings.alerts:
        match = ROUTE.fullmatch(text)
        assert match is not None, "settings have checked it"
        name = match["name"] or DEFAULT
        targets = found.setdefault(name, [])
        targets.append(Target(name, len(targets) + 1, match["url"]))
    return {name: tuple(targets) for name, targets in found.items()}


def targets_of(routes: Routes, chosen: Sequence[str] | None) -> tuple[Target, ...]:
    """The targets of an endpoint's `alerts:`. A name that is not configured goes where the others go: an
    alert for the wrong people is better than none.
    """
    if chosen is None:
        return routes.get(DEFAULT, ())
    found = dict.fromkeys(t for name in chosen for t in routes.get(name, routes.get(DEFAULT, ())))
    return tuple(found)


def send(target: Target, message: Message) -> bool:
    """Send now; whether the service took it. Never raises: the senders are other people's code."""
    import apprise  # a second with its plugins, and only who sends needs it

    asset = apprise.AppriseAsset(app_id=APP, app_desc=APP, async_mode=False, secure_logging=True)
    with _silence():
        try:
            sender = apprise.Apprise(asset=asset)
            # Escapes and emoji codes in a table's name are not to be interpreted.
            return bool(sender.add(target.url)) and bool(
                sender.notify(title=message.title, body=message.body, notify_type=message.level)
            )
        except Exception:
            return False


@contextmanager
def _silence() -> Iterator[None]:
    """What Apprise and its HTTP client log can hold the URL, or what a service answers to it."""
    loggers = [logging.getLogger(name) for name in ("apprise", "urllib3.connectionpool")]
    before = [logger.disabled for logger in loggers]
    for logger in loggers:
        logger.disabled = True
    try:
        yield
    finally:
        for logger, disabled in zip(loggers, before, strict=True):
            logger.disabled = disabled
