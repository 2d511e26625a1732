"""The definitions as serving holds them: found, planned and described once, not per request."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from email.utils import format_datetime

from endpoints.definition import Definitions, Endpoint, Version
from endpoints.query.plan import Plan, Refused, make_plan
from serving.auth import Principal
from serving.problems import HttpProblem


@dataclass(frozen=True, slots=True)
class Served:
    """One version, ready to answer. `plan` is None where no asset can answer for it."""

    endpoint: Endpoint
    version: Version
    plan: Plan | None
    refused: tuple[str, ...]  # the codes of why there is no plan
    headers: Mapping[str, str]  # Deprecation, Sunset, Link
    raw_headers: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def successor(self) -> int | None:
        """The version to move to: the current one, or else the next."""
        return _successor(self.endpoint, self.version)


@dataclass(frozen=True, slots=True)
class ServedEndpoint:
    """One endpoint and its versions."""

    endpoint: Endpoint
    versions: Mapping[int, Served]

    @property
    def current(self) -> Served:
        return self.versions[self.endpoint.current]

    def version(self, number: int | None, today: date) -> Served:
        """The pinned version or the current one. HttpProblem 404, or 410 past a pinned version's sunset."""
        if number is None:
            return self.current
        served = self.versions.get(number)
        if served is None:
            known = ", ".join(map(str, sorted(self.versions)))
            raise HttpProblem(
                "unknown_version", f"{self.endpoint.name} has no version {number}; it has {known}."
            )
        sunset = served.version.sunset
        if sunset is not None and sunset <= today:
            detail = f"Version {number} of {self.endpoint.name} ended on {sunset}."
            if served.successor is not None:
                detail += f" Call version {served.successor}."
            extra = {"successor": served.successor}
            raise HttpProblem("sunset", detail, headers=served.headers, extra=extra)
        return served


class Loaded:
    """All endpoints of the project, each planned once."""

    def __init__(self, definitions: Definitions) -> None:
        self.definitions = definitions
        self.endpoints = {
            name.lower(): ServedEndpoint(
                endpoint,
                {number: _served(endpoint, version) for number, version in endpoint.versions.items()},
            )
            for name, endpoint in definitions.endpoints.items()
        }
        self.broken = {
            name.lower(): name for name in definitions.broken if name.lower() not in self.endpoints
        }

    def find(self, name: str, principal: Principal) -> ServedEndpoint:
        """The endpoint, if this principal may know of it. HttpProblem 404 or 503.

        What a principal may not see answers exactly as what does not exist.
        """
        folded = name.lower()
        if principal.sees(folded):
            if folded in self.endpoints:
                return self.endpoints[folded]
            if folded in self.broken:
                raise HttpProblem("broken_definition")
        raise HttpProblem("unknown_endpoint", extra={"near": self._near(folded, principal)})

    def name_of(self, name: str, principal: Principal) -> str:
        """An endpoint as its folder has it; empty where this principal may know of none of that name."""
        folded = name.lower()
        if not principal.sees(folded):
            return ""
        found = self.endpoints.get(folded)
        return found.endpoint.name if found is not None else self.broken.get(folded, "")

    def visible(self, principal: Principal) -> Iterable[ServedEndpoint]:
        """The endpoints that this principal may know of, by name."""
        return (self.endpoints[name] for name in sorted(self.endpoints) if principal.sees(name))

    def _near(self, folded: str, principal: Principal) -> list[str]:
        names = {name: found.endpoint.name for name, found in self.endpoints.items() if principal.sees(name)}
        return [names[close] for close in difflib.get_close_matches(folded[:128], names, n=3)]


def _served(endpoint: Endpoint, version: Version) -> Served:
    headers = _lifecycle(endpoint, version)
    raw = tuple((name.lower().encode(), value.encode()) for name, value in headers.items())
    if version.materialize is None:
        return Served(endpoint, version, None, (), headers, raw)
    match make_plan(version):
        case Refused(reasons=reasons):
            return Served(endpoint, version, None, tuple(reason.code for reason in reasons), headers, raw)
        case plan:
            return Served(endpoint, version, plan, (), headers, raw)


def _successor(endpoint: Endpoint, version: Version) -> int | None:
    if endpoint.current != version.number:
        return endpoint.current
    return min((number for number in endpoint.versions if number > version.number), default=None)


def _lifecycle(endpoint: Endpoint, version: Version) -> dict[str, str]:
    """`Deprecation` (RFC 9745), `Sunset` (RFC 8594) and the successor, where they apply."""
    headers: dict[str, str] = {}
    if version.deprecated is not None:
        headers["Deprecation"] = f"@{int(_midnight(version.deprecated).timestamp())}"
    if version.sunset is not None:
        headers["Sunset"] = format_datetime(_midnight(version.sunset), usegmt=True)
    successor = _successor(endpoint, version)
    if headers and successor is not None:
        headers["Link"] = f'</endpoints/{endpoint.name}/run?version={successor}>; rel="successor-version"'
    return headers


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
