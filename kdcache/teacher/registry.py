"""Which adapter runs which teacher.

The key is the architecture that ``config.json`` names. Built-in adapters and third parties'
are found the same way, as ``module:Class``; a third party adds one by the entry point group
``kdcache.teachers`` (the entry point's name is the architecture) or by naming it in the
configuration. An adapter is called with ``(directory, device, dtype)`` and is a ``Teacher``.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdcache.errors import ConfigError, TeacherError, did_you_mean
from kdcache.teacher.directory import read_config
from kdcache.teacher.protocol import Teacher

if TYPE_CHECKING:
    from collections.abc import Callable

GROUP = "kdcache.teachers"

_WAVEFORM_CTC = "kdcache.teacher.waveform_ctc:WaveformCTCTeacher"

ADAPTERS: dict[str, str] = {
    "AdditiveTransducer": "kdcache.teacher.transducer:TransducerTeacher",
    "ParakeetForRNNT": "kdcache.teacher.transducer:TransducerTeacher",
    "ParakeetForCTC": "kdcache.teacher.ctc:ParakeetCTCTeacher",
    "WhisperForConditionalGeneration": "kdcache.teacher.attention:WhisperTeacher",
    "KdcacheSanM": "kdcache.teacher.san_m:SanMTeacher",
    "Data2VecAudioForCTC": _WAVEFORM_CTC,
    "HubertForCTC": _WAVEFORM_CTC,
    "UniSpeechForCTC": _WAVEFORM_CTC,
    "UniSpeechSatForCTC": _WAVEFORM_CTC,
    "Wav2Vec2ConformerForCTC": _WAVEFORM_CTC,
    "Wav2Vec2ForCTC": _WAVEFORM_CTC,
    "WavLMForCTC": _WAVEFORM_CTC,
}

# For a config.json that names no architecture.
MODEL_TYPES: dict[str, str] = {
    "kdcache_additive_rnnt": "AdditiveTransducer",
    "parakeet_rnnt": "ParakeetForRNNT",
    "parakeet_ctc": "ParakeetForCTC",
    "parakeet_tdt": "ParakeetForTDT",
    "whisper": "WhisperForConditionalGeneration",
    "kdcache_san_m": "KdcacheSanM",
    "data2vec-audio": "Data2VecAudioForCTC",
    "hubert": "HubertForCTC",
    "unispeech": "UniSpeechForCTC",
    "unispeech-sat": "UniSpeechSatForCTC",
    "wav2vec2-conformer": "Wav2Vec2ConformerForCTC",
    "wav2vec2": "Wav2Vec2ForCTC",
    "wavlm": "WavLMForCTC",
}

REFUSED: dict[str, str] = {
    "ParakeetForTDT": "it also predicts durations, which a lattice of blanks and labels cannot "
    "hold; use the model's RNN-T or CTC version",
}


def load_teacher(
    directory: str | Path,
    device: str = "cpu",
    dtype: str = "float32",
    adapter: str | None = None,
    *,
    compiled: bool = False,
) -> Teacher:
    """The teacher in ``directory``, ready to run.

    Args:
        directory: a local directory that ``from_pretrained`` loads.
        device: a torch device such as ``cpu`` or ``cuda:0``.
        dtype: ``float32``, ``bfloat16`` or ``float16``.
        adapter: ``module:Class`` of a third party's adapter; by default the directory's
            architecture decides.
        compiled: whether ``torch.compile`` makes kernels of its layers when they are first run.

    Raises:
        TeacherError: the directory cannot be used, or no adapter knows its architecture.
        TokenizerError: its tokenizer cannot be loaded or is not the model's.
        ConfigError: unknown device, dtype or adapter, or one that cannot be compiled.
    """
    path = Path(directory)
    make = _import_adapter(adapter) if adapter else _adapter_of(path)
    teacher = make(path, device, dtype)
    if not isinstance(teacher, Teacher):
        raise ConfigError(
            f"{adapter or type(teacher).__name__} is no teacher: it must have spec, tokenizer "
            "and forward as kdcache.teacher.Teacher describes."
        )
    return _compiled(teacher) if compiled else teacher


def architecture_of(config: dict[str, Any]) -> str:
    """The architecture that a ``config.json`` names, or the empty string."""
    named = config.get("architectures") or []
    model_type = str(config.get("model_type", ""))
    return str(named[0]) if named else MODEL_TYPES.get(model_type, model_type)


def _compiled(teacher: Teacher) -> Teacher:
    # Importing torch's compiler takes a second.
    from kdcache.teacher.compiled import CompiledTeacher

    return CompiledTeacher(teacher)


def _adapter_of(directory: Path) -> Callable[..., Any]:
    architecture = architecture_of(read_config(directory))
    if architecture in REFUSED:
        raise TeacherError(f"{directory} holds a {architecture}: {REFUSED[architecture]}.")
    if architecture in ADAPTERS:
        return _import_adapter(ADAPTERS[architecture])
    found = {point.name: point for point in entry_points(group=GROUP)}
    if architecture in found:
        return _import_adapter(found[architecture].value)
    raise TeacherError(
        f"{directory} holds {architecture or 'no named architecture'}, which no adapter knows; "
        f"known are {', '.join(sorted({*ADAPTERS, *found}))}."
        + did_you_mean(architecture, {*ADAPTERS, *found})
    )


def _import_adapter(name: str) -> Callable[..., Any]:
    module, _, attribute = name.partition(":")
    try:
        made: Callable[..., Any] = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"Teacher adapter {name!r} cannot be imported ({error}); expected module:Class."
        ) from error
    return made
