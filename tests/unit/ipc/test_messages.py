"""What is told to others can be encoded, whatever is in it."""

import pytest

from prefork.ipc import messages


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"path": "/run/\udcff"}, b'{"path":"/run/\\\\udcff"}'),
        ({"\udcff": ["\udcfe", (1, None, True)]}, b'{"\\\\udcff":["\\\\udcfe",[1,null,true]]}'),
        ({"path": "/run/é"}, '{"path":"/run/é"}'.encode()),
    ],
    ids=["a name", "deep inside", "Unicode stays"],
)
def test_what_is_no_unicode_is_told_as_an_escape(value: object, text: bytes) -> None:
    assert messages.as_json(value) == text


def test_a_shortened_text_can_be_encoded() -> None:
    messages.shorten("cannot read /srv/\udcff").encode()
