import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from app.training.language.packing import batches, pack
from app.training.language.readout import response_positions

documents = st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=30), min_size=1, max_size=40)


@given(documents)
def test_every_document_is_packed_once_and_whole_up_to_a_row(many):
    packed = pack(many, 15, np.random.default_rng(0))
    for number, document in enumerate(many):
        assert packed.tokens[packed.documents == number].tolist() == document[:16]


@given(documents)
def test_documents_of_a_row_have_segments_of_their_own(many):
    packed = pack(many, 15, np.random.default_rng(0))
    for segments, owners in zip(packed.segments, packed.documents, strict=True):
        pairs = {(int(s), int(d)) for s, d in zip(segments, owners, strict=True) if d >= 0}
        assert len(pairs) == len({s for s, _ in pairs}) == len({d for _, d in pairs})
        assert ((segments == 0) == (owners < 0)).all()


def test_packing_leaves_little_padding():
    rng = np.random.default_rng(0)
    many = [[1] * int(size) for size in rng.integers(5, 200, 2000)]
    packed = pack(many, 255, rng)
    assert (packed.segments == 0).mean() < 0.02


def test_the_same_seed_packs_the_same_rows():
    many = [[i] * (i % 7 + 1) for i in range(1, 60)]
    first, second = (pack(many, 15, np.random.default_rng(4)) for _ in range(2))
    np.testing.assert_array_equal(first.tokens, second.tokens)


def test_only_full_batches_are_read():
    packed = pack([[1] * 16] * 7, 15, np.random.default_rng(0))
    assert [len(batch) for batch in batches(packed, 3)] == [3, 3]


def test_response_positions_are_what_the_assistant_wrote():
    begin, end, user, assistant = 1, 2, 3, 4
    row = np.array([[begin, user, 50, 51, end, assistant, 60, 61, end, begin, 70, 71, end]])
    assert row[response_positions(row)].tolist() == [60, 61]
