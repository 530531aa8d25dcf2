"""Addresses: which are public, and that no spelling of an address passes for a name."""

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.addresses import Reach, is_allowed, is_usual_form, literal_address, reach_of

FULL_WIDTH = str.maketrans("0123456789.", "０１２３４５６７８９．")  # noqa: RUF001 (the characters that are tested)
NOT_PUBLIC = ("0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "172.16.0.1", "192.168.0.1")


@st.composite
def spellings(draw: st.DrawFn) -> tuple[IPv4Address, str]:
    """An address, and one of the spellings that `inet_aton` accepts."""
    address = draw(st.ip_addresses(v=4))
    assert isinstance(address, IPv4Address)
    whole = address.packed
    count = draw(st.integers(1, 4))
    numbers = [*whole[: count - 1], int.from_bytes(whole[count - 1 :])]
    forms = [draw(st.sampled_from(("{}", "0{:o}", "00{:o}", "0x{:x}", "0X{:X}", "0x000{:x}"))) for _ in numbers]
    return address, ".".join(form.format(number) for form, number in zip(forms, numbers, strict=True))


@given(spellings())
def test_each_spelling_that_the_system_accepts_is_the_address(case: tuple[IPv4Address, str]) -> None:
    address, text = case
    assert socket.inet_aton(text) == address.packed
    assert literal_address(text) == address


@given(spellings(), st.sampled_from(["full width", "percent", "ideographic dots", "final dot", "final dots"]))
def test_an_encoded_spelling_is_the_same_address(case: tuple[IPv4Address, str], how: str) -> None:
    address, text = case
    encoded = {
        "full width": text.translate(FULL_WIDTH),
        "percent": "".join(f"%{ord(character):02X}" for character in text),
        "ideographic dots": text.replace(".", "\u3002"),
        "final dot": f"{text}.",
        "final dots": f"{text}..",
    }[how]
    assert literal_address(encoded) == address


@given(st.text("0123456789abcdefxX.", min_size=1, max_size=20))
def test_whatever_the_system_takes_for_an_address_is_no_name(text: str) -> None:
    try:
        packed = socket.inet_aton(text)
    except OSError:
        return
    assert literal_address(text) == IPv4Address(packed)


@given(st.ip_addresses(v=6))
def test_ipv6_is_the_address_with_and_without_brackets(address: IPv6Address) -> None:
    for text in (str(address), f"[{address.exploded}]", f"[{str(address).upper()}]", f"[{address}%25eth0]"):
        assert literal_address(text) == address


@pytest.mark.parametrize("name", ["bot.example", "localhost", "1.2.3.4.example", "10.example", "x7f", "0xbot"])
def test_a_name_is_no_address(name: str) -> None:
    assert literal_address(name) is None
    assert not is_usual_form(name)


@pytest.mark.parametrize(
    "host",
    [
        "1.2.3.4.5",
        "256.1.1.1",
        "1.2.3.256",
        "1.16777216",
        "4294967296",
        "08.1.1.1",
        "bot.7",
        "a:b",
        "1..2",
        "9" * 5000,
    ],
    ids=[
        *("five parts", "first part too large", "last part too large", "last of two too large", "number too large"),
        *("no octal digit", "name with a number last", "colon", "empty part", "very many digits"),
    ],
)
def test_what_ends_in_a_number_and_is_no_address_is_refused(host: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (the parsers of Python have texts of their own)
        literal_address(host)


def test_the_usual_form_is_the_one_that_all_programs_read_alike() -> None:
    assert all(map(is_usual_form, ("127.0.0.1", "::1", "0:0:0:0:0:0:0:1", "::ffff:1.2.3.4")))
    assert not any(map(is_usual_form, ("127.1", "0x7f.0.0.1", "2130706433", "010.0.0.1", "[::1]", "fe80::1%eth0")))


@pytest.mark.parametrize(
    ("text", "reach"),
    [
        *((text, Reach.PRIVATE) for text in NOT_PUBLIC),
        *((text, Reach.PRIVATE) for text in ("192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255")),
        *((text, Reach.PLATFORM) for text in ("169.254.169.254", "168.63.129.16", "fe80::1", "64:ff9b:1::a00:1")),
        *((text, Reach.PRIVATE) for text in ("::", "::1", "fd00::1", "fec0::1", "2001:db8::1", "3fff::1", "ff0e::1")),
        *((text, Reach.PUBLIC) for text in ("8.8.8.8", "168.63.129.15", "172.15.0.1", "2a00:1450::1", "2606:4700::1")),
        ("5f00::1", Reach.PRIVATE),
        ("::8.8.8.8", Reach.PRIVATE),
        ("2002:808:808::1", Reach.PRIVATE),
        ("::ffff:8.8.8.8", Reach.PUBLIC),
        ("64:ff9b::8.8.8.8", Reach.PUBLIC),
    ],
)
def test_the_reach_of_an_address(text: str, reach: Reach) -> None:
    assert reach_of(ip_address(text)) == reach


def carriers(address: IPv4Address) -> dict[str, IPv6Address]:
    """Return the IPv6 addresses that lead to an IPv4 address, by the name of the form."""
    number = int(address)
    return {
        "mapped": IPv6Address(0xFFFF << 32 | number),
        "translated": IPv6Address(0xFFFF << 48 | number),
        "compatible": IPv6Address(number),
        "NAT64": IPv6Address(int(IPv6Address("64:ff9b::")) | number),
        "6to4": IPv6Address(0x2002 << 112 | number << 80 | 1),
        "Teredo server": IPv6Address(0x20010000 << 96 | number << 64 | (0xFFFFFFFF ^ int(IPv4Address("8.8.8.8")))),
        "Teredo client": IPv6Address(
            0x20010000 << 96 | int(IPv4Address("8.8.8.8")) << 64 | (0xFFFFFFFF ^ number)
        ),
    }  # fmt: skip


@given(st.ip_addresses(v=4))
def test_an_ipv6_address_is_never_more_public_than_the_ipv4_address_that_it_leads_to(address: IPv4Address) -> None:
    for form, carrier in carriers(address).items():
        assert reach_of(carrier) >= reach_of(address), form
        assert literal_address(f"[{carrier}]") == carrier


@pytest.mark.parametrize("text", ["169.254.169.254", "168.63.129.16"])
def test_a_platforms_address_is_never_allowed_in_any_form(text: str) -> None:
    for form, carrier in carriers(IPv4Address(text)).items():
        assert not is_allowed(carrier, allow_private=True), form


@pytest.mark.parametrize("text", [*NOT_PUBLIC, "fd00::1", "::1"])
def test_a_private_address_is_allowed_only_on_demand(text: str) -> None:
    assert not is_allowed(ip_address(text), allow_private=False)
    assert is_allowed(ip_address(text), allow_private=True)
