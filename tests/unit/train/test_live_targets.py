"""A live teacher's targets are those that an extraction would make of it, but for the codec."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from kdcache.batch import Batch
from kdcache.corpus import load_tokenizer
from kdcache.errors import TeacherOutputError
from kdcache.stream.collate import collate_records
from kdcache.student import TransducerStudent, build_student, save_student
from kdcache.student.settings import StudentSettings
from kdcache.target import make_target, target_spec
from kdcache.teacher import load_teacher
from kdcache.train.live_targets import Reduction, _reduction, teach

if TYPE_CHECKING:
    from pathlib import Path

    from kdcache.codec.records import Record
    from kdcache.teacher.protocol import TeacherOutput

SIZES = {
    "hidden": 16, "layers": 1, "heads": 2, "joint": 16, "subsampling_channels": 4, "dropout": 0,
    "rescorer": {"width": 8, "layers": 1, "heads": 2, "dropout": 0},
}  # fmt: skip
SAMPLES = [16_000, 9_000, 330]
LABELS = [[1, 2, 3], [], [4]]
TARGETS = [
    {"kind": "lattice", "top_k": 2},
    {"kind": "lattice", "width": 2},
    {"kind": "encoder_logits", "top_k": "all"},
    {"kind": "encoder_logits", "top_p": 0.9},
    {"kind": "encoder_logits", "samples": 20},
    {"kind": "frame_logits"},
    {"kind": "hidden"},
    {"kind": "full_sum"},
    {"kind": "hypotheses", "n": 3},
    {"kind": "decoder_logits", "top_k": 3},
]


class Bare:
    """What an extraction gives to its codec."""

    tail = None

    def encode(self, record: Record) -> dict[str, Any]:
        self.record = record
        return {}

    def decode(self, columns: object) -> Record:
        return self.record


@pytest.fixture(scope="module", params=["relu", "additive"])
def teacher(request: pytest.FixtureRequest, tones: Path) -> TransducerStudent:
    torch.manual_seed(5)
    values = SIZES | {"joint_kind": request.param, "ctc_head": request.param == "relu"}
    settings = StudentSettings.model_validate(values)
    student = build_student(settings, load_tokenizer(tones / "tokenizer")).eval()
    with torch.no_grad():
        for weight in student.model.decoder.parameters():
            weight.mul_(2.0)
    return student


def batch_of() -> Batch:
    """A long utterance, one without words, and one of a single frame."""
    random = np.random.default_rng(2)
    rows = [torch.from_numpy(0.1 * random.standard_normal(n)).float() for n in SAMPLES]
    labels = [torch.tensor(row, dtype=torch.int64) for row in LABELS]
    pad = torch.nn.utils.rnn.pad_sequence
    return Batch(
        ids=("long", "silent", "short"),
        texts=("", "", ""),
        labels_BU=pad(labels, batch_first=True),
        label_lengths_B=torch.tensor([len(row) for row in LABELS]),
        audio_BN=pad(rows, batch_first=True),
        audio_lengths_B=torch.tensor(SAMPLES),
        targets={},
    )


def asked(teacher: TransducerStudent, folder: Path, batch: Batch) -> list[TeacherOutput]:
    """What its adapter says of the same utterances, one at a time."""
    adapter = load_teacher(save_student(teacher, folder))
    outputs = []
    for row, name in enumerate(batch.ids):
        (output,) = adapter.forward([batch.audio_BN[row, : SAMPLES[row]].numpy()], [LABELS[row]])
        outputs.append(replace(output, utterance=name, blank=adapter.spec.blank_id))
    return outputs


def test_they_are_an_extraction_s_before_it_packs(
    teacher: TransducerStudent, tmp_path: Path
) -> None:
    batch = batch_of()
    outputs = asked(teacher, tmp_path / "teacher", batch)
    assert outputs[2].frames == 1
    with torch.no_grad():
        said = teacher(batch)
    for given in TARGETS:
        spec = target_spec(given)
        taught = teach(teacher, said, batch, [_reduction(spec)]).targets[spec.name]
        records = [Reduction(spec.name, make_target(spec), Bare()).of(one) for one in outputs]
        expected = collate_records(records)
        for item in fields(expected):
            found, wanted = getattr(taught, item.name), getattr(expected, item.name)
            if isinstance(wanted, torch.Tensor):
                torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3, msg=str(given))
            else:
                assert found is wanted is None


def test_no_gradient_reaches_the_teacher(teacher: TransducerStudent) -> None:
    batch = batch_of()
    spec = target_spec("encoder_logits")
    taught = teach(teacher.train(), teacher(batch), batch, [_reduction(spec)])
    assert not taught.targets["encoder_logits"].logp_BNC.requires_grad
    teacher.eval()


def test_nan_is_told_by_the_utterance(teacher: TransducerStudent) -> None:
    batch = batch_of()
    with torch.no_grad():
        said = teacher(batch)
    spoilt = replace(said, hidden_BTD=said.hidden_BTD.clone())
    spoilt.hidden_BTD[1, 0] = torch.nan
    with pytest.raises(TeacherOutputError, match=r"^Utterance 'silent': The teacher gave NaN"):
        teach(teacher, spoilt, batch, [_reduction(target_spec("hidden"))])


def test_records_of_every_kind_are_compared() -> None:
    made = {target_spec(given).record for given in TARGETS}
    assert made == {"lattice", "posterior", "vector", "score", "hypotheses"}
