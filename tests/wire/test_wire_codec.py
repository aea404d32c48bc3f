"""The codec: nothing is lost, nothing but a WireError is raised, and the limits hold."""

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire_strategies import attempt, instances, json_values, message_classes

from edgepick_wire import codec, limits
from edgepick_wire.envelope import Role
from edgepick_wire.errors import BadNameError, LimitError, MalformedError, WireError
from edgepick_wire.manifest import RuntimeChoice
from edgepick_wire.messages import Ack, Birth, Presence, Report, Reported
from edgepick_wire.metrics import EnergySummary, LatencySummary

CLASSES = message_classes()
every_class = pytest.mark.parametrize("kind", CLASSES, ids=lambda k: k.__name__)


def test_every_module_is_covered():
    """The classes under test come from all modules of the protocol."""
    assert {k.__module__.rpartition(".")[2] for k in CLASSES} >= {
        "messages",
        "metrics",
        "manifest",
        "trust",
        "envelope",
    }


@every_class
@settings(max_examples=25)
@given(data=st.data())
def test_round_trip(kind: type, data: st.DataObject):
    """What is encoded is decoded to an equal value, and encoding that gives the same bytes."""
    message = data.draw(instances(kind))

    encoded = codec.encode(message)

    assert codec.decode(kind, encoded) == message
    assert codec.encode(codec.decode(kind, encoded)) == encoded


@every_class
@settings(max_examples=25)
@given(data=st.data())
def test_unknown_fields_are_ignored(kind: type, data: st.DataObject):
    """A newer sender's field does not disturb an older receiver."""
    message = data.draw(instances(kind))
    extra = data.draw(json_values)

    newer = {**json.loads(codec.encode(message)), "a field of tomorrow": extra}

    assert codec.decode(kind, json.dumps(newer).encode()) == message


@every_class
@settings(max_examples=25)
@given(data=st.data())
def test_one_wrong_field_is_a_wire_error(kind: type, data: st.DataObject):
    """Any JSON value in any field gives a message or a WireError, never another exception."""
    good = json.loads(codec.encode(data.draw(instances(kind))))
    good[data.draw(st.sampled_from(sorted(good)))] = data.draw(json_values)

    found = attempt(codec.decode, kind, json.dumps(good).encode())

    assert isinstance(found, (kind, WireError))
    assert not isinstance(found, MalformedError) or kind.__name__ in str(found)


@every_class
@settings(max_examples=25)
@given(data=st.binary(max_size=60) | json_values.map(lambda v: json.dumps(v).encode()))
def test_arbitrary_bytes_are_a_message_or_a_wire_error(kind: type, data: bytes):
    """Whatever arrives, decoding raises nothing but WireError."""
    assert isinstance(attempt(codec.decode, kind, data), (kind, WireError))


@every_class
def test_missing_fields_are_named(kind: type):
    """An empty object is a message if every field has a default, else the missing field is named."""
    needed = [
        f.name
        for f in dataclasses.fields(kind)
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]

    found = attempt(codec.decode, kind, b"{}")

    if needed:
        assert str(found) == f"{kind.__name__}.{needed[0]}: missing"
    else:
        assert isinstance(found, (kind, MalformedError))


def test_canonical_form():
    """Keys are sorted, there are no spaces, and text is UTF-8."""
    assert codec.encode(Ack(ids=("ä", "b"))) == '{"ids":["ä","b"]}'.encode()
    assert codec.encode(Presence(session=3, online=True)) == b'{"online":true,"session":3}'


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"session":1,"session":2,"online":true}', "names one key twice"),
        (b'{"session":NaN,"online":true}', "Presence.session: NaN is not a JSON number"),
        (b'{"session":-Infinity,"online":true}', "Presence.session: -Infinity is not a JSON number"),
        (b'{"session":1,"online":true,"x":{"a":1,"a":1}}', "names one key twice"),
        (b'{"session":1,"online":true,"x":[NaN]}', "Presence is not JSON: NaN is not a JSON number"),
        (b'{"session":true,"online":true}', "Presence.session: expected int"),
        (b'{"session":1.0,"online":true}', "Presence.session: expected int"),
        (b'{"session":"1","online":true}', "Presence.session: expected int"),
        (b'{"session":1,"online":1}', "Presence.online: expected bool"),
        (b'{"session":1,"online":null}', "Presence.online: expected bool, found null"),
        (b'{"session":1}', "Presence.online: missing"),
        (b"[]", "Presence: expected an object, found a list"),
        (b"\xff\xfe", "not JSON"),
        (b'{"session":1,"online":true} ,', "not JSON"),
        (b"", "not JSON"),
    ],
)
def test_malformed_presence(data: bytes, message: str):
    """Duplicate keys, NaN and wrong types are refused, naming the field."""
    with pytest.raises(MalformedError, match=message):
        codec.decode(Presence, data)


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1" + "0" * 400])
def test_numbers_beyond_a_float(number: str):
    """A number that no float can hold is malformed, however it is written."""
    with pytest.raises(MalformedError, match=r"EnergySummary\.gross_uj"):
        codec.decode(EnergySummary, b'{"gross_uj":%b}' % number.encode())


def test_whole_numbers_have_63_bits_and_a_sign():
    """The largest that every language holds is taken; one more is refused by name, so that nothing overflows later."""
    largest = codec.decode(Presence, b'{"session":9223372036854775807,"online":true}')

    assert largest.session == limits.MAX_INTEGER
    for beyond in (b"9223372036854775808", b"-9223372036854775808", b"1" + b"0" * 400):
        with pytest.raises(LimitError, match=r"Presence\.session: a number of"):
            codec.decode(Presence, b'{"session":%b,"online":true}' % beyond)


def test_a_model_that_is_told_of_twice_is_malformed():
    """Which of the two would be true? The message is refused whole, as one with a digest that is none."""
    state = b'{"model":"digits","phase":"empty"%b}'
    reported = b'{"device":"pi-1","session":1,"sequence":0,"security_epoch":0,"models":[%b]}'

    with pytest.raises(MalformedError, match="one model is told of twice"):
        codec.decode(Reported, reported % b",".join([state % b""] * 2))
    with pytest.raises(BadNameError, match="Reported: digest 'here'"):
        codec.decode(Reported, reported % (state % b',"active":"here"'))


def test_whole_numbers_may_stand_for_floats():
    """JSON writers that drop ``.0`` are understood."""
    assert codec.decode(EnergySummary, b'{"gross_uj":2}').gross_uj == 2.0


@pytest.mark.parametrize("data", [rb'{"ids":["\ud800"]}', rb'{"ids":["a\udfffb"]}'])
def test_half_a_surrogate_pair(data: bytes):
    """Text that could not be written again is refused when it arrives."""
    with pytest.raises(MalformedError, match="surrogate"):
        codec.decode(Ack, data)


def test_half_a_surrogate_pair_as_key():
    """The same holds for the keys of free tables."""
    birth = (
        b'{"device":"a","session":1,"profile":"p","agent_version":"1","machine":"m","system":"s","python":"3",'
        b'"runtimes":[],"memory_bytes":1,"disk_free_bytes":1,"labels":{"\\ud800":"x"}}'
    )

    with pytest.raises(MalformedError, match=r"Birth\.labels.*surrogate"):
        codec.decode(Birth, birth)


def test_nothing_unwritable_is_encoded():
    """NaN and broken text are refused by the sender too."""
    summary = LatencySummary(runs=1, mean_ns=float("nan"), stdev_ns=0, min_ns=0, max_ns=0)  # type: ignore[arg-type]

    with pytest.raises(MalformedError, match="LatencySummary"):
        codec.encode(summary)
    with pytest.raises(MalformedError, match="Ack"):
        codec.encode(Ack(ids=("\ud800",)))


def test_payload_limit_both_ways():
    """A payload over 128 KiB is neither sent nor read."""
    ids = tuple(f"{i:08000}" for i in range(17))

    with pytest.raises(LimitError, match="may travel"):
        codec.encode(Ack(ids=ids))
    with pytest.raises(LimitError, match="are accepted"):
        codec.decode(Ack, codec.encode_document(Ack(ids=ids)))


def test_payload_at_the_limit():
    """A payload of exactly the limit is accepted."""
    frame = len(codec.encode(Ack(ids=("",))))
    parts = [limits.MAX_TEXT_CHARACTERS] * 15
    room = limits.MAX_PAYLOAD_BYTES - frame - sum(parts) - 3 * len(parts)
    message = Ack(ids=("x" * room, *("y" * n for n in parts)))

    data = codec.encode(message)

    assert len(data) == limits.MAX_PAYLOAD_BYTES
    assert codec.decode(Ack, data) == message


def test_text_limit():
    """One character more than the limit is refused."""
    fits = "x" * limits.MAX_TEXT_CHARACTERS

    assert codec.decode(Ack, codec.encode(Ack(ids=(fits,)))).ids == (fits,)
    with pytest.raises(LimitError, match=r"Ack\.ids\[0\]: 8193 characters"):
        codec.decode(Ack, codec.encode(Ack(ids=(fits + "x",))))


def test_list_limit():
    """One entry more than the limit is refused."""
    fits = ("x",) * limits.MAX_ITEMS

    assert codec.decode(Ack, codec.encode(Ack(ids=fits))).ids == fits
    with pytest.raises(LimitError, match=r"Ack\.ids: 4097 entries"):
        codec.decode(Ack, codec.encode(Ack(ids=(*fits, "x"))))


def test_own_documents_may_be_longer():
    """What a program has written itself is read up to the limit that it names, and messages are not meanwhile."""
    ids = tuple(f"{n}" for n in range(limits.MAX_ITEMS + 1))
    data = codec.encode_document(Ack(ids=ids))

    assert codec.decode_document(Ack, data, max_items=len(ids)).ids == ids
    with pytest.raises(LimitError):
        codec.decode_document(Ack, data)
    with pytest.raises(LimitError, match="at most 7 are accepted"):
        codec.decode_document(Ack, data, max_items=7)


def test_object_limit():
    """An object with too many keys is refused, known or not."""
    data = json.dumps({"ids": [], **{str(i): 0 for i in range(limits.MAX_ITEMS)}}).encode()

    with pytest.raises(LimitError, match="4097 entries"):
        codec.decode(Ack, data)


@pytest.mark.parametrize(
    "data", [b"[" * 60_000, b'{"a":' * 20_000, b'{"ids":[],"x":%b%b}' % (b"[" * 60_000, b"]" * 60_000)]
)
def test_deep_nesting(data: bytes):
    """Nesting that would exhaust the parser is refused, even in a field that is ignored."""
    with pytest.raises(WireError):
        codec.decode(Ack, data)


def test_errors_carry_path_code_and_hint():
    """A mistake deep inside names its path; code and hint are there for programs and people."""
    data = b'{"name":"litert","accelerators":["cpu",3]}'

    with pytest.raises(MalformedError, match=r"RuntimeChoice\.accelerators\[1\]: expected str, found '3'") as caught:
        codec.decode(RuntimeChoice, data)

    assert caught.value.code == "malformed"
    assert caught.value.hint


def test_enum_values_are_listed():
    """An unknown word is answered with those that are known."""
    with pytest.raises(MalformedError, match="'gpu' is not one of litert, tflite_runtime, onnxruntime, tflm"):
        codec.decode(RuntimeChoice, b'{"name":"gpu"}')


def test_rules_between_fields_name_the_message():
    """A contradiction inside a message is a malformed message."""
    data = b'{"id":"a","device":"d","session":1,"recorded_at":0,"kind":"incident"}'

    with pytest.raises(MalformedError, match="Report: a incident report fills exactly that part"):
        codec.decode(Report, data)


@pytest.mark.parametrize("keys", [[], ["AB" * 32], ["ab" * 31], ["zz" * 32]])
def test_roles_need_real_keys(keys: list[str]):
    """A role without enough different keys, each in its one spelling, is refused."""
    with pytest.raises(MalformedError):
        codec.decode(Role, json.dumps({"threshold": 1, "keys": keys}).encode())
