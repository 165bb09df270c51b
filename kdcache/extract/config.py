"""The settings of an extraction: which teacher, over which corpus, into which cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator, model_validator

from kdcache.config import ConfigLocation, ConfigPath, Settings

if TYPE_CHECKING:
    from pathlib import Path


class TeacherSettings(Settings):
    """The teacher, and what it runs on."""

    path: ConfigPath
    """The directory that ``from_pretrained`` loads; on a cluster, one that every node sees."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where it runs; ``auto`` is cuda where Ray has GPUs to give, else cpu."""

    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """The number format of its weights and activations; what is cached is computed in it, so that
    it is part of the teacher's fingerprint."""

    compile: bool = False
    """Whether ``torch.compile`` makes kernels of its layers: faster after a start of minutes. It
    changes last digits, and so is part of the fingerprint as well."""

    adapter: str | None = None
    """``module:Class`` of an adapter of your own; by default the directory's architecture
    decides."""


class CacheSettings(Settings):
    """The cache that is written."""

    path: ConfigLocation
    """Its directory or URL, such as ``s3://bucket/prefix``; on a cluster, one that every node
    sees."""

    layout: Literal["zarr", "webdataset"] = "zarr"
    """How shards are stored."""

    audio: Literal["none", "flac"] = "none"
    """Whether the teacher's input is kept beside its targets, so that a student needs no
    corpus."""


class RaySettings(Settings):
    """Where actors run."""

    address: str | None = None
    """A running cluster with kdcache on its nodes, such as ``auto`` or ``head:6379``; without
    one a cluster is started on this machine for the run and shut down after it."""

    object_store_mb: int = Field(default=128, ge=80)
    """Shared memory of a cluster that is started here; no arrays pass through it."""


class ExtractConfig(Settings):
    """Everything about one extraction."""

    teacher: TeacherSettings
    """The teacher."""

    corpus: ConfigPath | tuple[ConfigPath, ...]
    """A manifest, or a list of them; ids must be unique over all."""

    bad_lines: Literal["refuse", "skip"] = "refuse"
    """What becomes of lines of a manifest that cannot be read, and of ids that stand there twice:
    ``refuse`` the corpus before anything is computed, or ``skip`` them and tell so in the end."""

    cache: CacheSettings
    """The cache."""

    targets: tuple[str | dict[str, Any], ...]
    """What is kept: names of kinds, such as ``lattice``, or mappings with ``kind``, perhaps a
    ``name`` and a ``codec`` (such as ``{name: log8}``), and the kind's own settings, such as
    ``top_k`` or ``min_p``, or ``epsilon`` and ``width`` of a lattice's band. With ``max_kl``
    what is not written is chosen: see ``kdcache.extract.goals``."""

    max_kl: float | None = Field(default=None, gt=0)
    """Goal for all targets of posteriors that have none of their own: nats a frame, token or
    node. The cheapest settings within it are chosen on a sample when a cache is begun."""

    sample_utterances: int = Field(default=64, ge=1)
    """Utterances, of all durations, that the teacher hears before a new cache is begun; only
    where settings have to be chosen for a ``max_kl``, a codec's ``tail`` estimated or its
    ``codebooks`` trained."""

    batch_seconds: float = Field(default=120.0, gt=0)
    """Seconds of audio of a padded batch. One that does not fit in memory is halved."""

    unit_utterances: int = Field(default=200, ge=1)
    """Utterances of a work unit, which becomes one shard."""

    actors: int | Literal["auto"] = "auto"
    """Teacher actors; ``auto`` is as many as the cluster holds, now and as nodes come and go."""

    min_actors: int | None = Field(default=None, ge=1)
    """With ``actors: auto``, how many are asked for at least, so that an autoscaler brings nodes
    for them."""

    max_actors: int | None = Field(default=None, ge=1)
    """With ``actors: auto``, how many there are at most, however many the cluster holds."""

    cpus_per_actor: float = Field(default=1.0, gt=0)
    """CPUs that Ray reserves for an actor."""

    gpus_per_actor: float | None = Field(default=None, ge=0)
    """GPUs that Ray reserves for an actor; unless given, 1 on cuda and 0 on cpu. With 0.5, two
    actors share a GPU; its memory is not divided for them."""

    threads_per_actor: int = Field(default=1, ge=1)
    """Arithmetic threads of an actor. Sums are split among them, so that another number may
    change last digits."""

    decode_threads: int = Field(default=2, ge=1)
    """Threads of an actor that decode audio ahead of the teacher."""

    max_attempts: int = Field(default=3, ge=1)
    """How often a unit may cost an actor its life before it is split to find the utterance
    that is to blame."""

    storage_patience: float = Field(default=300.0, ge=0)
    """Seconds for which an actor tries a commit again, with growing pauses, while the storage
    fails; then the unit is handed back, and after ``max_attempts`` of that the run ends."""

    retry_failed: bool = False
    """Whether utterances that failed in an earlier run are tried again."""

    events: ConfigPath | None = None
    """A file on this machine that the run's events are appended to, one JSON object a line; unless
    given, a new one in ``runs/`` of a cache that lies in a directory."""

    ray: RaySettings = RaySettings()
    """Where actors run."""

    @property
    def manifests(self) -> tuple[Path, ...]:
        """The corpus's manifests, in order."""
        return self.corpus if isinstance(self.corpus, tuple) else (self.corpus,)

    @field_validator("targets", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return [value] if isinstance(value, str | dict) else value

    @field_validator("corpus", "targets")
    @classmethod
    def _not_empty(cls, value: Any) -> Any:
        if value == ():
            raise ValueError("should hold at least one, got an empty list")
        return value

    @field_validator("actors")
    @classmethod
    def _some(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
            raise ValueError(f"should be 'auto' or at least 1, got {value}")
        return value

    @model_validator(mode="after")
    def _in_order(self) -> ExtractConfig:
        least, most = self.min_actors, self.max_actors
        if self.actors != "auto" and (least or most):
            raise ValueError("min_actors and max_actors go with actors: auto, not with a number")
        if least and most and least > most:
            raise ValueError(f"min_actors {least} is more than max_actors {most}")
        return self
