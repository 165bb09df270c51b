"""``stage.json``: what a stage was run with, and what came of it.

It is written when the stage begins and again when it has ended, each time whole or not at all;
so a folder tells whether what is in it is finished, and what it was made from.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from kdcache.errors import KdcacheError
from kdcache.pipeline.digest import combined

if TYPE_CHECKING:
    from pathlib import Path

FILE = "stage.json"


@dataclass(frozen=True, slots=True)
class StageRecord:
    """One stage's record.

    Attributes:
        stage, kind: which.
        version: of the kind.
        state: whether it has ended.
        settings: those that decide what it makes.
        inputs: digest of what it reads, by place.
        outputs: digest of what it made, by name.
        facts: figures worth keeping.
        seconds: of the last start, until it ended.
        finished: when, in ISO 8601.
    """

    stage: str
    kind: str
    version: int
    state: Literal["begun", "done"]
    settings: dict[str, Any]
    inputs: dict[str, str]
    outputs: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    finished: str = ""

    @property
    def fingerprint(self) -> str:
        """Equal where the same work was done on the same inputs."""
        made_from = [self.kind, self.version, self.settings, self.inputs]
        return combined([json.dumps(made_from, sort_keys=True)])


def read_record(folder: Path) -> StageRecord | None:
    """The record in a stage's folder; ``None`` where there is none.

    Raises:
        KdcacheError: it is not what was written.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        values.pop("fingerprint")
        return StageRecord(**values)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise KdcacheError(
            f"{path} is not what was written ({type(error).__name__}); delete the folder "
            f"{folder}, and the stage is run again."
        ) from error


def write_record(folder: Path, record: StageRecord) -> None:
    """Put a record into a stage's folder, at once or not at all."""
    text = json.dumps({**asdict(record), "fingerprint": record.fingerprint}, indent=2) + "\n"
    partial = folder / f".{FILE}.{os.getpid()}.partial"
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(folder / FILE)


def difference(before: StageRecord, now: StageRecord) -> str:
    """What makes two records differ, in words: the first few settings and inputs."""
    if (before.kind, before.version) != (now.kind, now.version):
        return f"it was {before.kind} {before.version} and is {now.kind} {now.version}"
    old, new = dict(_flat(before.settings)), dict(_flat(now.settings))
    changed = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    told = [f"{name} was {_shown(old, name)} and is {_shown(new, name)}" for name in changed]
    inputs = {**before.inputs, **now.inputs}
    told += [
        f"{name} has changed" for name in inputs if before.inputs.get(name) != now.inputs.get(name)
    ]
    return "; ".join(told[:3]) + (f"; and {len(told) - 3} more" if len(told) > 3 else "")


def _flat(value: Any, above: str = "") -> list[tuple[str, Any]]:
    if not isinstance(value, dict):
        return [(above, value)]
    return [
        pair
        for key, item in value.items()
        for pair in _flat(item, f"{above}.{key}" if above else str(key))
    ]


def _shown(values: dict[str, Any], name: str) -> str:
    return json.dumps(values[name]) if name in values else "the default"
