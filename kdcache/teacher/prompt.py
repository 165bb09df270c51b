"""The tokens that Whisper's decoder starts from: start, language, task, no timestamps.

They follow what ``generate`` does with the same configs: ``language`` and ``task`` of the
generation config first, then the older ``forced_decoder_ids``; a multilingual model with
neither detects the language by the first token's posterior.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

from kdcache.errors import TeacherError, did_you_mean


@dataclass(frozen=True, slots=True)
class Prompt:
    """What comes before the first token.

    Attributes:
        tokens: ids; ``None`` stands for the language that is to be detected.
        languages: ids of language tokens to choose from.
    """

    tokens: tuple[int | None, ...]
    languages: tuple[int, ...] = ()

    @property
    def length(self) -> int:
        """P."""
        return len(self.tokens)

    @property
    def start(self) -> int:
        """The start token."""
        return int(self.tokens[0] or 0)


def read_prompt(generation: Any, config: Any, where: str) -> Prompt:
    """The prompt that a generation config (and, for old checkpoints, the config) asks for.

    Args:
        generation: the model's ``generation_config``.
        config: the model's ``config``.
        where: names the teacher in messages.

    Raises:
        TeacherError: no start token, or an unknown language or task.
    """
    start = _first(getattr(c, "decoder_start_token_id", None) for c in (generation, config))
    if start is None:
        raise TeacherError(f"{where}: neither config names a decoder_start_token_id; add it.")
    language, task = getattr(generation, "language", None), getattr(generation, "task", None)
    tokens = [] if language or task else _forced(generation, config)
    tokens = _with_language(tokens, generation, language, where)
    tokens = _with_task(tokens, generation, language, task, where)
    silent = getattr(generation, "no_timestamps_token_id", None)
    if silent is not None and (not tokens or tokens[-1] != silent):
        tokens.append(silent)
    languages = tuple(sorted((getattr(generation, "lang_to_id", None) or {}).values()))
    return Prompt((int(start), *tokens), languages)


def _first(values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _forced(generation: Any, config: Any) -> list[int | None]:
    """Tokens of ``forced_decoder_ids`` at positions 1, 2, …; the rest of it is no prompt."""
    pairs = _first(getattr(c, "forced_decoder_ids", None) for c in (generation, config)) or []
    return [token for place, (position, token) in enumerate(pairs, 1) if position == place]


def _with_language(
    tokens: list[int | None], generation: Any, language: str | None, where: str
) -> list[int | None]:
    known = getattr(generation, "lang_to_id", None) or {}
    if language:
        return [_language_id(language, known, where), *tokens[1:]]
    if known and (not tokens or tokens[0] is None):
        return [None, *tokens[1:]]
    return [token for token in tokens if token is not None]


def _language_id(language: str, known: dict[str, int], where: str) -> int:
    name = language.lower()
    for token in (name, f"<|{TO_LANGUAGE_CODE.get(name, name)}|>"):
        if token in known:
            return int(known[token])
    raise TeacherError(
        f"{where}: its generation config asks for language {language!r}, which is not in its "
        f"lang_to_id.{did_you_mean(name, [key.strip('<|>') for key in known])}"
    )


def _with_task(
    tokens: list[int | None], generation: Any, language: str | None, task: str | None, where: str
) -> list[int | None]:
    known = getattr(generation, "task_to_id", None) or {}
    if task and task not in known:
        raise TeacherError(
            f"{where}: its generation config asks for task {task!r}, which is not in its "
            f"task_to_id.{did_you_mean(task, known)}"
        )
    if task:
        return [*(token for token in tokens if token not in known.values()), int(known[task])]
    if language and known and not any(token in known.values() for token in tokens):
        return [*tokens, int(known["transcribe"])]
    return tokens
