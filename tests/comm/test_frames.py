"""The parser of frames, against bytes made here by hand."""

import struct

import pytest
from hypothesis import given, strategies as st

from sedma_jax.comm._libp2p.yamux_frames import (
    DATA,
    GO_AWAY,
    LARGEST_WINDOW,
    FrameError,
    FrameReader,
)

FRAMES = st.lists(
    st.one_of(
        st.tuples(st.just(0), st.integers(0, 15), st.integers(1, 2**32 - 1), st.binary()),
        st.tuples(
            st.just(1), st.integers(0, 15), st.integers(1, 9), st.integers(0, 2**32 - 1)
        ),
        st.tuples(st.just(2), st.integers(0, 3), st.just(0), st.integers(0, 2**32 - 1)),
    ),
    max_size=8,
)


def encoded(kind, flags, stream, value):
    body = value if kind == 0 else b""
    length = len(value) if kind == 0 else value
    return struct.pack("!BBHII", 0, kind, flags, stream, length) + body


@given(FRAMES, st.lists(st.integers(1, 50), min_size=1))
def test_frames_survive_any_cut_into_records(frames, cuts):
    data = b"".join(encoded(*each) for each in frames)
    reader, found, at, turn = FrameReader(), [], 0, 0
    while at < len(data):
        step = cuts[turn % len(cuts)]
        found += reader.frames(data[at : at + step])
        at, turn = at + step, turn + 1
    assert [
        (f.kind, f.flags, f.stream, bytes(f.body) if f.kind == 0 else f.value)
        for f in found
    ] == frames


@given(st.lists(st.binary(max_size=80)))
def test_any_bytes_are_frames_or_refused(records):
    reader, given_bytes = FrameReader(), 0
    try:
        for record in records:
            given_bytes += len(record)
            for each in reader.frames(record):
                assert each.kind <= GO_AWAY and each.flags <= 15
                assert len(each.body) == (each.value if each.kind == DATA else 0)
            assert len(reader._rest) <= given_bytes
    except FrameError:
        pass


@pytest.mark.parametrize(
    "fields",
    [
        (1, 0, 0, 1, 0),  # version
        (0, 4, 0, 1, 0),  # type
        (0, 0, 16, 1, 0),  # flags
        (0, 0, 0, 0, 0),  # data on the stream of the connection itself
        (0, 2, 1, 3, 0),  # a ping on another
        (0, 0, 0, 1, LARGEST_WINDOW + 1),  # longer than any window
    ],
)
def test_what_is_no_frame_is_refused(fields):
    with pytest.raises(FrameError):
        list(FrameReader().frames(struct.pack("!BBHII", *fields)))


def test_a_short_body_does_not_keep_its_record():
    record = encoded(0, 0, 1, b"x") + encoded(0, 0, 3, bytes(60_000))
    short, long = FrameReader().frames(record)
    assert len(short.body.obj) == 1
    assert len(long.body.obj) == len(record)
