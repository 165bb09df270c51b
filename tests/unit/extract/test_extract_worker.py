"""A unit through a teacher, in this process: what is packed, and what is recorded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from kdcache.corpus.audio import decode_flac, load_audio
from kdcache.errors import TeacherError
from kdcache.extract.plan import cut_batches, make_unit
from kdcache.extract.targets import bind_targets
from kdcache.extract.worker import UnitWorker
from kdcache.target import target_spec
from kdcache.teacher import load_teacher
from kdcache.testing.small_teachers import save_small_wav2vec2
from kdcache.types import AudioRef
from tests.unit.extract.extract_fakes import (
    FRAME,
    RATE,
    FakeTeacher,
    save_corpus,
    save_fake_teacher,
)

LENGTHS = (4000, 4400, 8000, 8400, 12000, 12400)


@pytest.fixture
def corpus(tmp_path):
    return save_corpus(tmp_path / "wav", LENGTHS)[1]


def make_worker(tmp_path, targets=("lattice",), control=None, **settings):
    teacher = FakeTeacher(save_fake_teacher(tmp_path / "teacher", **(control or {})))
    bound = bind_targets(map(target_spec, targets), teacher.spec)
    return UnitWorker(teacher, bound, **settings), teacher


def unit_of(corpus, batch_seconds=3.1):
    return make_unit("s", cut_batches(corpus, batch_seconds))


def codes(result):
    return {failed.utterance.id: failed.code for failed in result.failed}


def test_every_utterance_is_packed_in_the_order_of_ids(tmp_path, corpus):
    worker, teacher = make_worker(tmp_path)
    result = worker.run(unit_of(corpus))
    assert [packed.utterance for packed in result.packed] == corpus
    assert result.failed == ()
    assert teacher.calls == [2, 2, 2]
    for packed, length in zip(result.packed, LENGTHS, strict=True):
        assert packed.duration == length / RATE
        assert packed.frames == length // FRAME
        assert list(packed.tokens) == teacher.tokenizer.encode(packed.utterance.text)
        assert all(name.startswith("lattice.") for name in packed.columns)
        assert packed.fidelity["lattice.kl_mean"] >= 0
    assert result.audio_seconds == pytest.approx(sum(LENGTHS) / RATE)


def test_what_is_packed_is_what_the_teacher_says(tmp_path, corpus):
    worker, teacher = make_worker(tmp_path, [{"kind": "hidden", "codec": "fp16"}])
    result = worker.run(unit_of(corpus))
    codec = bind_targets([target_spec({"kind": "hidden", "codec": "fp16"})], teacher.spec)[0].codec
    for packed in result.packed:
        samples = load_audio(packed.utterance.audio, RATE)
        (output,) = teacher.forward([samples], [packed.tokens])
        columns = {name.partition(".")[2]: array for name, array in packed.columns.items()}
        decoded = codec.decode(columns).values_TD
        np.testing.assert_allclose(decoded, output.hidden_TD.numpy(), atol=1e-3)


def test_the_same_unit_gives_the_same_bytes(tmp_path, corpus):
    targets = ["lattice", {"kind": "encoder_logits", "top_k": 3}]
    first, second = (
        make_worker(tmp_path, targets, decode_threads=threads)[0].run(unit_of(corpus))
        for threads in (1, 3)
    )
    for one, other in zip(first.packed, second.packed, strict=True):
        assert one.columns.keys() == other.columns.keys()
        assert all(np.array_equal(one.columns[key], other.columns[key]) for key in one.columns)
        assert one.fidelity == other.fidelity


def test_audio_is_kept_where_it_is_asked_for(tmp_path, corpus):
    worker, _ = make_worker(tmp_path, keep_audio=True)
    for packed in worker.run(unit_of(corpus)).packed:
        samples, rate = decode_flac(packed.columns["audio"].tobytes())
        assert rate == RATE
        expected = load_audio(packed.utterance.audio, RATE)
        np.testing.assert_allclose(samples / 32767, expected, atol=1 / 32767)


class TestFailures:
    def test_bad_audio_and_text_are_recorded_and_the_others_go_on(self, tmp_path, corpus):
        (tmp_path / "noise.wav").write_bytes(b"RIFF but no audio")
        bad = list(corpus)
        bad[0] = replace(bad[0], audio=AudioRef(str(tmp_path / "nowhere.wav"), 0.0, 0.5))
        bad[1] = replace(bad[1], audio=AudioRef(str(tmp_path / "noise.wav"), 0.0, 0.5))
        bad[2] = replace(bad[2], text="  ")
        bad[3] = replace(bad[3], text="one ♥")
        result = make_worker(tmp_path)[0].run(unit_of(bad))
        assert codes(result) == {
            "u00": "audio", "u01": "audio", "u02": "transcript", "u03": "transcript"
        }  # fmt: skip
        assert [packed.utterance.id for packed in result.packed] == ["u04", "u05"]
        messages = {failed.utterance.id: failed.message for failed in result.failed}
        assert "nowhere.wav" in messages["u00"]
        assert "no transcript" in messages["u02"]
        assert "♥" in messages["u03"]

    def test_a_batch_that_fails_is_repeated_one_by_one(self, tmp_path, corpus):
        worker, teacher = make_worker(tmp_path, control={"fail": [LENGTHS[2]]})
        result = worker.run(unit_of(corpus))
        assert codes(result) == {"u02": "RuntimeError"}
        assert result.failed[0].message == "RuntimeError: cannot bear 8000 samples"
        assert len(result.packed) == 5
        assert teacher.calls == [2, 2, 1, 1, 2]

    def test_nan_is_refused_for_its_utterance_alone(self, tmp_path, corpus):
        worker, _ = make_worker(tmp_path, control={"nan": [LENGTHS[4]]})
        result = worker.run(unit_of(corpus))
        assert codes(result) == {"u04": "teacher-output"}
        assert len(result.packed) == 5

    def test_no_frames_are_a_failure(self, tmp_path):
        corpus = save_corpus(tmp_path / "short", [FRAME - 1, FRAME])[1]
        result = make_worker(tmp_path)[0].run(unit_of(corpus))
        assert codes(result) == {"u00": "teacher-output"}
        assert [packed.frames for packed in result.packed] == [1]

    def test_an_answer_short_of_an_utterance_is_not_trusted(self, tmp_path, corpus, monkeypatch):
        worker, teacher = make_worker(tmp_path)
        forward = teacher.forward
        monkeypatch.setattr(
            teacher,
            "forward",
            lambda audio, tokens: forward(audio, tokens)[: max(1, len(audio) - 1)],
        )
        result = worker.run(unit_of(corpus))
        assert len(result.packed) == 6
        assert teacher.calls == [2, 1, 1] * 3

    def test_a_broken_device_is_not_the_utterances_fault(self, tmp_path, corpus, monkeypatch):
        worker, teacher = make_worker(tmp_path)

        def broken(*_):
            raise torch.AcceleratorError("device-side assert triggered")

        monkeypatch.setattr(teacher, "forward", broken)
        with pytest.raises(torch.AcceleratorError):
            worker.run(unit_of(corpus))


class TestCTC:
    def test_text_is_not_needed(self, tmp_path, corpus):
        worker, _ = make_worker(tmp_path, ["encoder_logits"], {"kind": "ctc"})
        silent = [replace(corpus[0], text=""), *corpus[1:]]
        result = worker.run(unit_of(silent))
        assert result.failed == ()
        assert [bool(packed.tokens) for packed in result.packed] == [False] + [True] * 5

    def test_text_that_is_given_must_be_spelt(self, tmp_path, corpus):
        worker, _ = make_worker(tmp_path, ["encoder_logits"], {"kind": "ctc"})
        result = worker.run(unit_of([replace(corpus[0], text="♥"), *corpus[1:]]))
        assert codes(result) == {"u00": "transcript"}


class TestRehearsal:
    def test_a_sound_teacher_passes(self, tmp_path):
        worker, teacher = make_worker(tmp_path)
        worker.rehearse()
        assert teacher.calls == [1]

    @pytest.mark.parametrize("fault", ["fail", "nan"])
    def test_what_fails_for_all_is_found_before_the_first(self, tmp_path, fault):
        worker, _ = make_worker(tmp_path, control={fault: [RATE]})
        with pytest.raises(TeacherError, match="one second of noise"):
            worker.rehearse()


def test_layers_are_asked_for_where_a_target_is_made_of_them(tmp_path, corpus):
    teacher_path = save_small_wav2vec2(tmp_path / "w2v", [u.text for u in corpus], layers=3)
    teacher = load_teacher(teacher_path)
    wanted = ["encoder_logits", {"kind": "hidden", "name": "h2", "layer": 2}]
    bound = bind_targets(map(target_spec, wanted), teacher.spec)
    worker = UnitWorker(teacher, bound)
    assert teacher.kept_layers == (2,)
    worker.rehearse()
    result = worker.run(unit_of(corpus))
    assert result.failed == ()
    for packed in result.packed:
        decoded = bound[1].codec.decode(
            {k[3:]: v for k, v in packed.columns.items() if k.startswith("h2.")}
        )
        samples = load_audio(packed.utterance.audio, teacher.spec.sample_rate)
        (output,) = teacher.forward([samples], [()])
        np.testing.assert_allclose(decoded.values_TD, output.layers[2], rtol=2e-3, atol=2e-3)
        assert not np.allclose(output.layers[2], output.hidden_TD, atol=1e-2)


@pytest.mark.parametrize("layer", [9])
def test_a_layer_that_the_teacher_lacks_stops_before_the_first_utterance(tmp_path, corpus, layer):
    teacher = load_teacher(save_small_wav2vec2(tmp_path / "w2v", [u.text for u in corpus]))
    wanted = [{"kind": "hidden", "name": "far", "layer": layer}]
    worker = UnitWorker(teacher, bind_targets(map(target_spec, wanted), teacher.spec))
    with pytest.raises(TeacherError, match="does not give layer 9"):
        worker.rehearse()
    fake, _ = make_worker(tmp_path, wanted)
    with pytest.raises(TeacherError, match="does not give layer 9"):
        fake.rehearse()
