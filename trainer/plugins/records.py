"""What a run folder says of plugins: plugins.json, and how it compares with what is loaded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.plugins.loading import LOADED, Plugin
from trainer.utils.errors import UserError
from trainer.utils.files import write_atomic

if TYPE_CHECKING:
    from trainer.descriptions.registry import Description

FILE = "plugins.json"


def record(taking_part: Iterable[Description]) -> list[dict[str, Any]]:
    """The plugins that a run uses, by the descriptions that take part in it, and those that the command named."""
    classes = {type(one) for one in taking_part}
    entries = []
    for plugin in LOADED.values():
        used = any(one in classes for one in plugin.classes)
        if used or plugin.place is not None:
            entries.append(_entry(plugin) | {"used": used})
    return entries


def write_plugins(run: Path, entries: Sequence[dict[str, Any]]) -> None:
    """plugins.json of a run folder; a run that never had plugins has none."""
    if entries or (run / FILE).exists():
        write_atomic(run / FILE, json.dumps(entries, indent=1))


def _entry(plugin: Plugin) -> dict[str, Any]:
    return {
        "name": plugin.module,
        "module": plugin.module,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "source": str(plugin.source),
        "sha256": plugin.sha256,
        "brings": plugin.brings,
    }


def read_plugins(run: Path) -> list[dict[str, Any]]:
    """The entries of a run folder's plugins.json; none where it has none. Raises UserError where it is damaged."""
    file = run / FILE
    try:
        entries = json.loads(file.read_text())
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be read ({error})") from None
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def origin(entry: dict[str, Any]) -> str:
    """Where the plugin of an entry comes from: its distribution and version, or its file."""
    if entry.get("distribution"):
        return f"{entry['distribution']} {entry.get('version')}"
    return str(entry.get("source"))


def require(run: Path) -> None:
    """Raise UserError, with a line for each plugin that the run in this folder uses and that is not loaded."""
    missing = [one for one in read_plugins(run) if one.get("used") and one.get("module") not in LOADED]
    if missing:
        raise UserError("\n".join(map(_way, missing)))


def _way(entry: dict[str, Any]) -> str:
    name, of = entry.get("name"), origin(entry)
    if entry.get("distribution"):
        return f"the run uses the plugin {name} of {of}, which is not installed; install it, or add plugins=[{name}]"
    return f"the run uses the plugin {name} ({of}), which is not loaded; add plugins=[{of}]"


def sources(entries: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Hash of the source of every plugin that is used, by the plugin's name."""
    return {str(one.get("name")): str(one.get("sha256")) for one in entries if one.get("used")}


def changed_sources(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """A line for each plugin whose source has another hash than before."""
    return [
        f"plugin {name}: its source changed since the run was last started ({before[name][:12]} then, {hash[:12]} now)"
        for name, hash in now.items()
        if before.get(name, hash) != hash
    ]
