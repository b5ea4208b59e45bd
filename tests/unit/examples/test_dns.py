import dnslib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.dns import EXAMPLE_ZONE, answer, load
from examples.dns.message import TCP_LIMIT, UDP_LIMIT
from examples.dns.zone import ZoneError, read_zone

ZONE = load(str(EXAMPLE_ZONE))
START = "$ORIGIN t.\n@ IN SOA a b 1 2 3 4 5\n"


def ask(name: str, kind: str, limit: int = UDP_LIMIT) -> dnslib.DNSRecord:
    reply = answer(ZONE, bytes(dnslib.DNSRecord.question(name, kind).pack()), limit)
    assert reply is not None
    return dnslib.DNSRecord.parse(reply)


def said(name: str, kind: str) -> list[str]:
    return [f"{record.rname} {dnslib.QTYPE[record.rtype]} {record.rdata}" for record in ask(name, kind).rr]


def code(reply: dnslib.DNSRecord) -> str:
    return str(dnslib.RCODE[reply.header.rcode])


@pytest.mark.parametrize(
    ("name", "kind", "records"),
    [
        ("example.test", "A", ["example.test. A 192.0.2.10"]),
        ("example.test", "AAAA", ["example.test. AAAA 2001:db8::10"]),
        ("example.test", "MX", ["example.test. MX 10 mail.example.test."]),
        ("example.test", "TXT", ['example.test. TXT "v=spf1 mx -all"']),
        ("example.test", "NS", ["example.test. NS ns1.example.test.", "example.test. NS ns2.example.test."]),
        ("www.example.test", "CNAME", ["www.example.test. CNAME example.test."]),
        ("www.example.test", "A", ["www.example.test. CNAME example.test.", "example.test. A 192.0.2.10"]),
        ("elsewhere.example.test", "A", ["elsewhere.example.test. CNAME www.example.com."]),
    ],
)
def test_records_are_found(name: str, kind: str, records: list[str]) -> None:
    assert said(name, kind) == records


def test_case_does_not_matter_and_is_repeated() -> None:
    assert said("EXAMPLE.Test", "A") == ["EXAMPLE.Test. A 192.0.2.10"]


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("mail.example.test", "NOERROR"),  # but has no MX record
        ("b.example.test", "NOERROR"),  # only a name below it has records
        ("nothing.example.test", "NXDOMAIN"),
    ],
)
def test_what_is_not_there_is_denied_with_the_soa_record(name: str, outcome: str) -> None:
    reply = ask(name, "MX")

    assert code(reply) == outcome
    assert reply.rr == []
    assert [dnslib.QTYPE[record.rtype] for record in reply.auth] == ["SOA"]


@pytest.mark.parametrize("name", ["example.org", "test", "otherexample.test", "."])
def test_names_of_others_are_refused(name: str) -> None:
    assert code(ask(name, "A")) == "REFUSED"


def test_a_long_answer_is_truncated_over_udp_only() -> None:
    short, whole = ask("long.example.test", "TXT"), ask("long.example.test", "TXT", TCP_LIMIT)

    assert (short.header.tc, len(short.rr)) == (1, 0)
    assert (whole.header.tc, len(whole.rr)) == (0, 4)


def test_a_circle_of_aliases_ends() -> None:
    zone = read_zone(START + "a CNAME b\nb CNAME a\n")
    reply = answer(zone, bytes(dnslib.DNSRecord.question("a.t", "A").pack()), UDP_LIMIT)

    assert reply is not None
    assert len(dnslib.DNSRecord.parse(reply).rr) == 2


@pytest.mark.parametrize(
    ("question", "count"),
    [
        (b"\xc0\x0c\0\1\0\1", 1),  # a pointer to itself
        (b"\x03abc", 1),
        (b"\x50" + b"a" * 80 + b"\0\0\1\0\1", 1),
        (b"\x3f" + b"a" * 63 + b"\x3f" + b"a" * 63 + b"\x3f" + b"a" * 63 + b"\x3f" + b"a" * 63 + b"\0\0\1\0\1", 1),
        (b"\1a\0\0\1\0\1", 0),
        (b"\1a\0\0\1\0\1" * 2, 2),
    ],
    ids=["pointer", "cut", "label", "name", "none", "two"],
)
def test_a_question_that_makes_no_sense_is_a_format_error(question: bytes, count: int) -> None:
    reply = answer(ZONE, b"\x12\x34\1\0" + bytes([0, count]) + bytes(6) + question, UDP_LIMIT)

    assert reply == b"\x12\x34\x81\1" + bytes(8)


def test_other_operations_are_not_implemented() -> None:
    assert answer(ZONE, b"\x12\x34\x28\0" + bytes(8), UDP_LIMIT) == b"\x12\x34\xa8\4" + bytes(8)


@pytest.mark.parametrize("data", [b"", b"short", b"\x12\x34\x80\0" + bytes(8)], ids=["empty", "short", "reply"])
def test_what_is_no_query_is_not_answered(data: bytes) -> None:
    assert answer(ZONE, data, UDP_LIMIT) is None


@given(st.binary(max_size=80), st.booleans())
def test_any_bytes_are_answered_or_ignored(data: bytes, plausible: bool) -> None:
    message = b"\x12\x34\1\0\0\1" + bytes(6) + data if plausible else data
    reply = answer(ZONE, message, UDP_LIMIT)

    assert reply is None or reply[:2] == message[:2]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "one SOA record"),
        (START + "@ IN SOA a b 1 2 3 4 5\n", "one SOA record"),
        ("www A 192.0.2.1\n", "line 1: www needs an $ORIGIN"),
        (START + "www A 192.0.2.300\n", "line 3: "),
        (START + "www A\n", "line 3: "),
        (START + "www\n", "line 3: "),
        (START + "www HINFO a b\n", "line 3: not a record that is known here: HINFO"),
        (START + "www..x A 192.0.2.1\n", "line 3: www..x is not a domain name"),
        (START + 'www TXT "open\n', "line 3: No closing quotation"),
        (START + "www TXT " + "x" * 256, "line 3: "),
        (START + "www MX 70000 mail\n", "line 3: "),
        (START + "www.other. A 192.0.2.1\n", "www.other. is not in the zone t."),
        ("$ORIGIN t.\n@ SOA a b (\n1 2 3 4 5\n", "line 2: parentheses do not match"),
    ],
)
def test_an_error_in_a_zone_file_is_explained(text: str, complaint: str) -> None:
    with pytest.raises(ZoneError) as caught:
        read_zone(text)

    assert complaint in str(caught.value)
