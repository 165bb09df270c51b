"""A stream as Lhotse's cuts: through its sampler and datasets, and back without a loss."""

from __future__ import annotations

import sys
from dataclasses import fields, is_dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from kdcache.codec.records import PosteriorRecord, VectorRecord
from kdcache.codec.tail import TailModel
from kdcache.errors import DamagedCacheError, InputError, MissingDependencyError
from kdcache.stream import Example, Stream, TorchDataset, collate_cuts, stream_cuts
from kdcache.stream.collate import collate
from kdcache.stream.lhotse_cuts import make_cut
from kdcache.testing.records import random_band, random_record

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kdcache.batch import Batch

lhotse = pytest.importorskip("lhotse", reason="lhotse is not installed: 'kdcache[lhotse]'")

RATE = 8_000


class MemorySource:
    """Random utterances of each kind of target; every third lattice is a band."""

    def __init__(self, rows: int = 13, damaged: Iterable[int] = (), audio: bool = True) -> None:
        self._rng_seed, self._audio, self._damaged = 3, audio, frozenset(damaged)
        self.durations = np.linspace(0.2, 2.0, rows)
        self.snapshot = f"{rows}"

    frame_shift = 0.04

    def load(self, row: int) -> Example:
        if row in self._damaged:
            raise DamagedCacheError(f"row {row} is damaged")
        rng = np.random.default_rng([self._rng_seed, row])
        samples = rng.normal(size=int(self.durations[row] * RATE)).astype(np.float32)
        return Example(
            f"utt-{row}",
            f"text of {row}",
            rng.integers(1, 50, size=row % 4),
            samples if self._audio else None,
            {
                "lattice": random_record(rng, "lattice") if row % 3 else random_band(rng),
                "encoder_logits": random_record(rng, "posterior"),
                "hidden": random_record(rng, "vector"),
                "full_sum": random_record(rng, "score"),
                "hypotheses": random_record(rng, "hypotheses"),
            },
        )

    def load_batch(self, rows: Sequence[int]) -> Batch:
        return collate([self.load(row) for row in rows])


def stream_of(source: MemorySource | None = None, **changes: Any) -> Stream:
    shared = {"batch_seconds": 4.0, "seed": 5, "micro_batches_per_step": 2}
    return Stream(source or MemorySource(), **(shared | changes))


def flat(value: Any) -> Any:
    """Plain values of whatever is in a batch, with dtypes."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), value.tolist()
    if is_dataclass(value):
        return {f.name: flat(getattr(value, f.name)) for f in fields(value)}
    return {k: flat(v) for k, v in value.items()} if isinstance(value, dict) else value


def test_micro_batches_come_back_bit_for_bit_in_the_same_order() -> None:
    expected = [flat(batch) for batch in stream_of()]
    found = [flat(collate_cuts(cuts)) for cuts in stream_cuts(stream_of(), RATE)]
    assert found == expected != []


def test_cuts_say_what_lhotse_wants_to_know() -> None:
    for cuts in stream_cuts(stream_of(), RATE):
        assert isinstance(cuts, lhotse.CutSet)
        lhotse.validate(cuts)
        for cut in cuts:
            example = MemorySource().load(int(cut.id.removeprefix("utt-")))
            assert cut.supervisions[0].text == example.text
            assert np.array_equal(cut.load_audio()[0], example.audio)
            assert np.array_equal(cut.load_hidden_values(), example.targets["hidden"].values_TD)
            assert cut.hidden_values.duration == pytest.approx(cut.duration)


def test_a_tail_model_comes_along() -> None:
    class WithTail(MemorySource):
        tail = TailModel(np.zeros((1, 5), np.uint8), np.zeros(5, np.uint8))

        def load(self, row: int) -> Example:
            example = super().load(row)
            record = example.targets["encoder_logits"]
            assert isinstance(record, PosteriorRecord)
            targets = {"encoder_logits": replace(record, tail=self.tail)}
            return replace(example, targets=targets)

    cuts = next(iter(stream_cuts(stream_of(WithTail()), RATE)))
    batch = collate_cuts(cuts)
    assert batch.targets["encoder_logits"].tail.row_V.tolist() == [0] * 5


def test_entries_of_codebooks_come_along() -> None:
    class WithCodes(MemorySource):
        def load(self, row: int) -> Example:
            example = super().load(row)
            record = example.targets["hidden"]
            assert isinstance(record, VectorRecord)
            codes = np.arange(len(record.values_TD), dtype=np.uint8)[:, None]
            return replace(example, targets={"hidden": replace(record, codes_TQ=codes)})

    source = WithCodes()
    cuts = next(iter(stream_cuts(stream_of(source), RATE)))
    expected = next(iter(stream_of(source)))
    assert flat(collate_cuts(cuts)) == flat(expected)
    assert cuts[0].hidden_codes.temporal_dim == 0


def test_without_audio_there_is_no_recording() -> None:
    source = MemorySource(audio=False)
    cuts = next(iter(stream_cuts(stream_of(source), RATE)))
    assert not any(cut.has_recording for cut in cuts)
    assert [cut.duration for cut in cuts] == [
        source.durations[int(cut.id.removeprefix("utt-"))] for cut in cuts
    ]
    assert collate_cuts(cuts).audio_BN is None


def test_a_sampler_deals_out_every_utterance_once() -> None:
    """Lhotse's own batches, from a lazy set of all cuts."""
    every = lhotse.CutSet(chain.from_iterable(stream_cuts(stream_of(), RATE)))
    sampler = lhotse.dataset.DynamicCutSampler(every, max_duration=3.0, world_size=1, rank=0)
    batches = [collate_cuts(cuts) for cuts in sampler]
    ids = [name for batch in batches for name in batch.ids]
    assert ids == [name for batch in stream_of() for name in batch.ids]
    for batch in batches:
        assert batch.audio_lengths_B is not None
        assert int(batch.audio_lengths_B.sum()) <= 3.0 * RATE


def test_lhotse_s_dataset_and_collation() -> None:
    dataset = lhotse.dataset.K2SpeechRecognitionDataset(
        return_cuts=True, input_strategy=lhotse.dataset.AudioSamples()
    )
    for cuts in stream_cuts(stream_of(), RATE):
        given = dataset[cuts]
        batch = collate_cuts(given["supervisions"]["cut"])
        assert torch.equal(given["inputs"], batch.audio_BN)
        assert given["supervisions"]["text"] == list(batch.texts)
        values, lengths = lhotse.dataset.collation.collate_custom_field(
            lhotse.CutSet.from_cuts(given["supervisions"]["cut"]), "hidden_values", pad_value=0
        )
        assert torch.equal(values, batch.targets["hidden"].values_BTD)
        assert lengths.tolist() == batch.targets["hidden"].lengths_B.tolist()


def test_it_goes_on_where_a_stream_of_batches_was() -> None:
    whole = [batch.ids for batch in stream_of()]
    first = stream_of()
    taken = [batch.ids for batch in next(iter(first.steps())).batches]
    cuts = stream_cuts(first, RATE)
    rest = [collate_cuts(batch).ids for batch in cuts]
    assert taken + rest == whole
    assert first.state_dict()["next"] == 1, "the stream it was made of stays"
    again = stream_cuts(stream_of(), RATE)
    again.load_state_dict(first.state_dict())
    assert [collate_cuts(batch).ids for batch in again] == rest


@pytest.mark.parametrize("rank", [0, 1])
def test_workers_get_as_many_items(rank: int) -> None:
    """Stand-ins are cuts as well."""
    plain = TorchDataset(stream_of(rank=rank, world_size=2), epochs=2)
    cuts = TorchDataset(stream_cuts(stream_of(rank=rank, world_size=2), RATE), epochs=2)
    for item, expected in zip(cuts, plain, strict=True):
        assert collate_cuts(item["batch"]).ids == expected["batch"].ids
        assert (item["weight"], item["position"]) == (expected["weight"], expected["position"])


def test_damage_is_skipped_as_in_a_stream_of_batches() -> None:
    plain = stream_of(MemorySource(damaged={2, 5}), on_damage="skip")
    cuts = stream_cuts(stream_of(MemorySource(damaged={2, 5}), on_damage="skip"), RATE)
    expected = [flat(batch) for batch in plain]
    assert [flat(collate_cuts(batch)) for batch in cuts] == expected
    assert cuts.damaged.keys() == plain.damaged.keys() == {2, 5}


def test_other_cuts_are_refused() -> None:
    cut = lhotse.MonoCut("strange", 0.0, 1.0, channel=0)
    with pytest.raises(InputError, match="Cut 'strange' carries no targets"):
        collate_cuts([cut])


def test_noise_may_be_mixed_in() -> None:
    cuts = next(iter(stream_cuts(stream_of(), RATE)))
    samples = np.random.default_rng(0).normal(size=3 * RATE).astype(np.float32)
    noise = make_cut(Example("noise", "", np.array([1]), samples), 3.0, RATE).drop_supervisions()
    noise.custom = None  # a cut of a noise corpus has no targets
    noises = lhotse.CutSet.from_cuts([noise])
    mixed = cuts.mix(noises, snr=10, mix_prob=1.0, seed=0, preserve_id="left")
    clean, noisy = collate_cuts(cuts), collate_cuts(mixed)
    assert clean.audio_BN is not None
    assert noisy.audio_BN is not None
    assert not torch.equal(noisy.audio_BN, clean.audio_BN)
    assert flat(replace(noisy, audio_BN=clean.audio_BN)) == flat(clean)


@pytest.mark.parametrize(
    "change",
    [
        lambda cut: cut.truncate(duration=cut.duration / 2, preserve_id=True),
        lambda cut: cut.truncate(offset=cut.duration / 2, preserve_id=True),
        lambda cut: cut.perturb_speed(0.9),
        lambda cut: cut.pad(duration=cut.duration + 1, preserve_id=True),
    ],
)
def test_another_time_axis_is_refused(change: Any) -> None:
    cuts = next(iter(stream_cuts(stream_of(), RATE)))
    with pytest.raises(InputError, match="which no longer fit; leave out what truncates"):
        collate_cuts([change(cut) for cut in cuts])


def test_it_says_which_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lhotse", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'kdcache\[lhotse\]'"):
        stream_cuts(stream_of())
