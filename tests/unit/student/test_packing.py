"""Packed students: what comes back, what it takes, and files that are none."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.numpy import load_file, save_file
from test_san_m import SHARED, student_of, two
from test_transducer import SMALL as TRANSDUCER

from kdcache.corpus import load_tokenizer
from kdcache.errors import InputError
from kdcache.student import build_student, load_student, pack_student, save_student
from kdcache.student.packed_file import MAGIC, pack_file, read_packed
from kdcache.student.packed_tensor import INTEGERS, Form, pack_tensor, unpack_tensor
from kdcache.student.packing import is_packed, weights_file
from kdcache.student.places import bitmap, from_bitmap, from_gaps, gaps
from kdcache.student.pruning import prunable, zero_smallest
from kdcache.student.quantisation import roundable
from kdcache.student.rounding import rounded, to_integers, to_weights

if TYPE_CHECKING:
    from pathlib import Path

    from kdcache.corpus.tokenizer import Tokenizer

FLOATS = st.floats(-(2.0**99), 2.0**99, width=32)
MATRICES = arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 9)), elements=FLOATS)
MASKS = arrays(bool, st.integers(0, 700), elements=st.sampled_from([False] * 30 + [True]))


@pytest.fixture(scope="module")
def tokenizer(tones: Path) -> Tokenizer:
    return load_tokenizer(tones / "tokenizer")


@given(MASKS)
def test_places_are_found_again(kept: np.ndarray) -> None:
    assert np.array_equal(from_bitmap(bitmap(kept), len(kept)), kept)
    assert np.array_equal(from_gaps(gaps(kept), len(kept)), kept)


@pytest.mark.parametrize("zeros", [0, 254, 255, 256, 509, 510, 511])
def test_gaps_of_a_byte_and_more(zeros: int) -> None:
    kept = np.array([False] * zeros + [True, True])
    assert len(gaps(kept)) == zeros // 255 + 2
    assert np.array_equal(from_gaps(gaps(kept), len(kept)), kept)


@pytest.mark.parametrize("data", [bytes([3, 9]), bytes([255]), bytes([0, 255])])
def test_gaps_that_lead_nowhere(data: bytes) -> None:
    with pytest.raises(InputError, match="beyond the 10 weights"):
        from_gaps(data, 10)


@given(MATRICES)
def test_integers_are_near(weight: np.ndarray) -> None:
    integers, scales = to_integers(weight)
    near = to_weights(integers, scales)
    bound = scales[:, None] * np.float32(0.5001) + np.finfo(np.float32).tiny * 128
    assert (np.abs(near - weight) <= bound).all()
    assert (near[weight == 0] == 0).all()
    again, same = to_integers(near)
    assert np.array_equal(to_weights(again, same), near) or np.allclose(same, scales, rtol=1e-6)


def test_integers_by_hand() -> None:
    weight = np.array([[127.0, -63.4, 0.6], [0.0, 0.0, 0.0], [-2.0, 1.0, 0.01]], np.float32)
    integers, scales = to_integers(weight)
    assert integers.tolist() == [[127, -63, 1], [0, 0, 0], [-127, 64, 1]]
    assert scales.tolist() == pytest.approx([1.0, 0.0, 2 / 127])


def test_every_row_of_a_kernel_has_its_scale() -> None:
    weight = np.random.default_rng(0).standard_normal((4, 2, 3)).astype(np.float32)
    weight[2] *= 1000
    integers, scales = to_integers(weight)
    assert integers.shape == weight.shape
    assert np.abs(integers).reshape(4, -1).max(1).tolist() == [127] * 4
    assert np.abs(to_weights(integers, scales) - weight)[3].max() < 0.02


@given(MATRICES, st.booleans(), st.booleans())
def test_a_tensor_there_and_back(weight: np.ndarray, int8: bool, sparse: bool) -> None:
    data = pack_tensor(weight, int8=int8, sparse=sparse)
    found, taken = unpack_tensor(memoryview(data + b"more"), "float32", weight.shape)
    assert taken == len(data)
    expected = to_weights(*to_integers(weight)) if int8 else weight
    assert np.array_equal(found, expected)
    assert found.dtype == np.float32


@pytest.mark.parametrize(
    ("share", "form"), [(0.0, Form.ALL), (0.5, Form.BITMAP), (0.97, Form.GAPS)]
)
@pytest.mark.parametrize("int8", [False, True])
def test_the_smallest_form_is_taken(share: float, form: Form, int8: bool) -> None:
    weight = np.random.default_rng(0).uniform(1, 2, (40, 50)).astype(np.float32)
    weight.reshape(-1)[np.random.default_rng(1).permutation(2000)[: int(share * 2000)]] = 0.0
    data = pack_tensor(weight, int8=int8, sparse=True)
    assert data[0] == form + (INTEGERS if int8 else 0)
    kept, width = int((weight != 0).sum()), 1 if int8 else 4
    places = {Form.ALL: 0, Form.BITMAP: 4 + 250, Form.GAPS: len(gaps(weight.reshape(-1) != 0)) + 4}
    assert len(data) == 1 + (160 if int8 else 0) + places[form] + kept * width
    assert pack_tensor(weight, int8=int8, sparse=False)[0] % INTEGERS == Form.ALL


def test_minus_zero_takes_no_place() -> None:
    weight = np.array([[-0.0, 0.0, 3.0] * 100], np.float32)
    data = pack_tensor(weight, int8=False, sparse=True)
    assert len(data) == 1 + 4 + 38 + 400
    assert np.array_equal(unpack_tensor(memoryview(data), "float32", weight.shape)[0], weight)


def pruned(tokenizer: Tokenizer, share: float = 0.8) -> torch.nn.Module:
    student = student_of(tokenizer, SHARED)
    for weight in prunable(student).values():
        zero_smallest([weight], share)
    return student


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("sparse", [False, True])
def test_a_student_there_and_back(
    tokenizer: Tokenizer, tmp_path: Path, int8: bool, sparse: bool
) -> None:
    student = pruned(tokenizer)
    file = pack_student(student, tmp_path, int8=int8, sparse=sparse)
    assert file == weights_file(tmp_path)
    assert is_packed(tmp_path)
    with torch.no_grad():
        for weight in roundable(student).values() if int8 else ():
            weight.copy_(rounded(weight))
    back = load_student(tmp_path)
    assert back.ctc_head is None
    assert back.tokenizer.fingerprint == tokenizer.fingerprint
    for name, weight in student.network.state_dict().items():
        assert torch.equal(back.network.state_dict()[name], weight), name
    spelt = (each(two()).attention_logits_BUV for each in (student, back))
    assert torch.equal(*spelt)


def test_each_means_saves_bytes(tokenizer: Tokenizer, tmp_path: Path) -> None:
    student = pruned(tokenizer)
    whole = save_student(student, tmp_path / "floats") / "model.safetensors"
    sizes = {
        (int8, sparse): pack_student(
            student, tmp_path / f"{int8}{sparse}", int8=int8, sparse=sparse
        )
        .stat()
        .st_size
        for int8 in (False, True)
        for sparse in (False, True)
    }
    assert sizes[False, False] < whole.stat().st_size
    assert sizes[True, True] < sizes[True, False] < sizes[False, False]
    assert sizes[True, True] < sizes[False, True] < sizes[False, False]


def test_the_same_student_gives_the_same_bytes(tokenizer: Tokenizer, tmp_path: Path) -> None:
    files = [pack_student(pruned(tokenizer), tmp_path / name) for name in ("one", "two")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_what_is_packed_packs_to_what_it_is(tokenizer: Tokenizer, tmp_path: Path) -> None:
    pack_student(pruned(tokenizer), tmp_path / "one")
    once = load_student(tmp_path / "one")
    pack_student(once, tmp_path / "two")
    again = load_student(tmp_path / "two")
    pairs = zip(once.parameters(), again.parameters(), strict=True)
    for before, after in pairs:
        torch.testing.assert_close(after, before, rtol=1e-6, atol=0)


def test_a_transducer_is_packed_too(tokenizer: Tokenizer, tmp_path: Path) -> None:
    torch.manual_seed(0)
    heads = {"ctc_head": True, "hidden_head": 5, "rescorer": SHARED.decoder}
    student = build_student(TRANSDUCER.model_copy(update=heads), tokenizer).eval()
    pack_student(student, tmp_path)
    assert not list(tmp_path.glob("*.safetensors"))
    assert (tmp_path / "rescorer.packed").is_file()
    back = load_student(tmp_path)
    assert back.ctc_head is None
    assert back.hidden_head is None
    assert back.rescorer.settings == SHARED.decoder
    with torch.no_grad():
        for weight in roundable(student).values():
            weight.copy_(rounded(weight))
    logits = (each(two()).lattice_logits() for each in (student, back))
    assert torch.equal(*logits)
    assert "model.decoder.lstm.weight_hh_l0" in roundable(student)
    assert not any("bias" in name or "head." in name[:10] for name in roundable(student))


def test_a_directory_that_has_a_student(tokenizer: Tokenizer, tmp_path: Path) -> None:
    save_student(student_of(tokenizer), tmp_path)
    with pytest.raises(InputError, match="holds a student already"):
        pack_student(student_of(tokenizer), tmp_path)


def test_weights_that_are_not_numbers(tokenizer: Tokenizer, tmp_path: Path) -> None:
    student = student_of(tokenizer)
    with torch.no_grad():
        student.model.encoder.norm.weight[3] = float("nan")
    with pytest.raises(InputError, match=r"encoder\.norm\.weight holds float32 values that cannot"):
        pack_student(student, tmp_path)


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    source, path = tmp_path / "model.safetensors", tmp_path / "model.packed"
    weight = np.arange(12, dtype=np.float32).reshape(3, 4)
    tensors = {"b.weight": weight, "a.bias": weight[0], "steps": np.array(7, np.int64)}
    save_file(tensors, source, {"format": "pt"})
    assert pack_file(source, path, int8=False, sparse=True) == path.stat().st_size
    return path


def test_any_file_there_and_back(packed: Path) -> None:
    tensors, metadata = read_packed(packed)
    assert metadata == {"format": "pt"}
    before = load_file(packed.with_suffix(".safetensors"))
    assert tensors.keys() == before.keys()
    for name, value in before.items():
        assert tensors[name].dtype == value.dtype
        assert np.array_equal(tensors[name], value)


@pytest.mark.parametrize("at", [8, 12, 30, 60, -30, -5, -1])
def test_a_byte_that_changed(packed: Path, at: int) -> None:
    data = bytearray(packed.read_bytes())
    data[at] ^= 1
    packed.write_bytes(bytes(data))
    with pytest.raises(InputError, match="is damaged: its checksum is another"):
        read_packed(packed)


@pytest.mark.parametrize("length", [0, 5, 8, 11, 12, 40, 100])
def test_a_file_that_was_cut(packed: Path, length: int) -> None:
    packed.write_bytes(packed.read_bytes()[:length])
    with pytest.raises(InputError, match=r"packed|damaged"):
        read_packed(packed)


def sealed(body: bytes) -> bytes:
    return body + zlib.crc32(body).to_bytes(4, "little")


def with_header(text: bytes, rest: bytes = b"") -> bytes:
    squeezed = zlib.compress(text)
    return sealed(MAGIC + len(squeezed).to_bytes(4, "little") + squeezed + rest)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"safetensors?", "holds no packed weights"),
        (sealed(MAGIC + b"\x03\0\0\0abc"), "cannot be read"),
        (with_header(b"{}"), "cannot be read"),
        (with_header(b"[1]"), "cannot be read"),
        (with_header(b'{"metadata": {}, "tensors": [["a", "object", [1]]]}'), "of 'object', which"),
        (with_header(b'{"metadata": {}, "tensors": [["a", "float32", [1]]]}'), "end before the"),
        (with_header(b'{"metadata": {}, "tensors": [["a", "float32", [1]]]}', b"\x09"), "form 9"),
        (with_header(b'{"metadata": {}, "tensors": []}', b"more"), "4 bytes follow"),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "model.packed"
    path.write_bytes(data)
    with pytest.raises(InputError, match=message):
        read_packed(path)
