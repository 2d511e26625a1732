"""Where things lie in the lake. `docs/lake.md` draws it."""

from __future__ import annotations

HEADS = "_heads"
CLAIMS = "_claims"
REQUESTS = "_requests"
ALERTS = "_alerts"


def version_folder(endpoint: str, version: int) -> str:
    """The folder of a version, from the lake's root."""
    return f"endpoints/{endpoint}/v{version}"


def data_folder(endpoint: str, version: int) -> str:
    """The folder of a version's Parquet files, one folder in it per attempt."""
    return f"{version_folder(endpoint, version)}/data"


def manifest_key(endpoint: str, version: int, number: int) -> str:
    """The key of a numbered manifest."""
    return f"{version_folder(endpoint, version)}/manifests/{number:020}.json"


def segment_folder(endpoint: str, version: int) -> str:
    """The folder of the parts of large manifests."""
    return f"{version_folder(endpoint, version)}/manifests/segments"


def segment_key(endpoint: str, version: int, name: str) -> str:
    """The key of one such part, named by the hash of its content."""
    return f"{segment_folder(endpoint, version)}/{name}.json"


def rollback_folder(endpoint: str, version: int) -> str:
    """The folder that tells collection of rollbacks under way, one object each."""
    return f"{version_folder(endpoint, version)}/rollbacks"


def hint_key(endpoint: str, version: int) -> str:
    """The key of a version's hint."""
    return f"{HEADS}/{endpoint}/v{version}.json"


def hinted(key: str) -> tuple[str, int] | None:
    """The (endpoint, version) whose hint has this key; None where it is nobody's."""
    match key.split("/"):
        case [folder, endpoint, name] if folder == HEADS:
            number = name.removeprefix("v").removesuffix(".json")
            return (endpoint, int(number)) if number.isdecimal() else None
    return None


def claims_folder(endpoint: str, version: int) -> str:
    """The folder that tells which run is making which partitions of a version."""
    return f"{CLAIMS}/{endpoint}/v{version}"
