"""The three-way merge, against its definition."""

import json

from hypothesis import given
from hypothesis import strategies as st

from quart_session.merge import changed_keys, merge

documents = st.dictionaries(st.sampled_from("abcd"), st.sampled_from([0, 1, True, 1.0, [1]]))


def encode(value):
    return json.dumps(value).encode()


@given(documents, documents)
def test_a_key_is_changed_if_its_bytes_differ(base, now):
    assert set(changed_keys(base, now, encode)) == {
        key for key in "abcd" if encode(base.get(key, "absent")) != encode(now.get(key, "absent"))
    }


@given(documents, documents, documents)
def test_my_changes_win_and_their_other_changes_stay(base, mine, theirs):
    changed = set(changed_keys(base, mine, encode))
    merged = merge(mine, theirs, changed)
    for key in "abcd":
        winner = mine if key in changed else theirs
        assert merged.get(key, "absent") is winner.get(key, "absent")


@given(documents, documents)
def test_without_changes_of_mine_theirs_is_the_result(mine, theirs):
    assert merge(mine, theirs, set()) == theirs
