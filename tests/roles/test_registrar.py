"""What the registrar remembers, and by what it is found."""

from __future__ import annotations

import sys

import pytest

from imslab.core.errors import PeerError
from imslab.diameter.userdata import IdentityType, PublicIdentity, ServiceProfile, UserProfile
from imslab.roles.registrar import (
    Binding,
    Identity,
    Registrar,
    Registration,
    identities_of,
    same_contact,
    same_device,
)
from imslab.sip.fields.address import Contact

A, B, C = "sip:a@ims.example", "sip:b@ims.example", "tel:+1"


def identity(uri: str, **marks: bool) -> Identity:
    return Identity(uri, uri, **marks)


def binding(contact: str = "<sip:ue@10.0.0.2:5062>", impi: str = "a@ims.example", number: int = 1) -> Binding:
    return Binding(number, impi, Contact.parse(contact), 3600.0, 0.0, [], "call", 1)


def registration(*identities: Identity, **more: object) -> Registration:
    made = Registration(A, identities or (identity(A), identity(B)), **more)  # type: ignore[arg-type]
    made.bindings.append(binding())
    return made


def test_a_set_is_found_by_any_identity() -> None:
    registrar = Registrar()
    made = registration()
    registrar.update(made)
    assert registrar.find(A) is registrar.find(B) is made
    assert registrar.of_private("a@ims.example") == (made,)
    assert registrar.find(C) is None
    assert registrar.of_private("nobody") == ()
    assert len(registrar) == 1


def test_a_set_without_bindings_is_forgotten() -> None:
    registrar = Registrar()
    made = registration()
    registrar.update(made)
    made.bindings.clear()
    registrar.update(made)
    assert registrar.find(A) is registrar.find(B) is None
    assert len(registrar) == 0
    registrar.update(made)
    assert len(registrar) == 0


def test_a_set_may_change_its_identities() -> None:
    registrar = Registrar()
    made = registration()
    registrar.update(made)
    made.identities = (identity(A), identity(C))
    registrar.update(made)
    assert registrar.find(B) is None
    assert registrar.find(C) is made


def test_what_was_asked_for_is_found_though_the_set_does_not_list_it() -> None:
    registrar = Registrar()
    made = registration(identity(B))
    registrar.update(made)
    assert registrar.find(A) is made
    assert made.is_barred(A)
    assert made.representative == B


def test_wildcards_are_no_names() -> None:
    registrar = Registrar()
    made = registration(identity(A), identity(B, distinct=False))
    registrar.update(made)
    assert registrar.find(B) is None
    assert made.allowed == [A]


def test_a_private_identity_may_have_several_sets() -> None:
    registrar = Registrar()
    one, other = registration(), Registration(C, (identity(C),), [binding(number=2)])
    registrar.update(one)
    registrar.update(other)
    assert registrar.of_private("a@ims.example") == (one, other)
    one.bindings.clear()
    registrar.update(one)
    assert registrar.of_private("a@ims.example") == (other,)


def test_a_set_may_have_several_private_identities() -> None:
    registrar = Registrar()
    made = registration()
    made.bindings.append(binding("<sip:x@y>", impi="b@ims.example", number=2))
    registrar.update(made)
    assert len(registrar) == 2
    assert [each.number for each in made.of_private("b@ims.example")] == [2]
    del made.bindings[0]
    registrar.update(made)
    assert registrar.of_private("a@ims.example") == ()
    assert registrar.of_private("b@ims.example") == (made,)


def test_an_identity_that_moved_is_not_taken_from_its_new_set() -> None:
    registrar = Registrar()
    old, new = registration(), Registration(B, (identity(B),), [binding(number=2)])
    registrar.update(old)
    registrar.update(new)
    old.bindings.clear()
    registrar.update(old)
    assert registrar.find(B) is new


def test_default_is_the_first_that_may_be_used() -> None:
    """29.228 6.5.1.1."""
    made = registration(identity(A, barred=True), identity(B, distinct=False), identity(C))
    assert made.allowed == [C]
    assert made.is_barred(A)
    assert not made.is_barred(C)
    assert made.representative == A
    assert Registration(A, ()).representative == A


def test_identities_come_from_the_profile_in_its_order() -> None:
    profiles = [
        ServiceProfile([PublicIdentity("SIP:A%61@IMS.example;user=phone", barred=True)]),
        ServiceProfile([PublicIdentity("sip:*@x", type=IdentityType.WILDCARDED_PSI), PublicIdentity("tel:+1-2")]),
    ]
    assert identities_of(UserProfile("a", profiles)) == (
        Identity("SIP:A%61@IMS.example;user=phone", "sip:Aa@ims.example", True, True),
        Identity("sip:*@x", "sip:*@x", False, False),
        Identity("tel:+1-2", "tel:+12", True, False),
    )
    with pytest.raises(PeerError):
        identities_of(UserProfile("a", [ServiceProfile([PublicIdentity("no uri")])]))


def test_numbers_are_never_given_twice() -> None:
    registrar = Registrar()
    assert [registrar.new_number() for _ in range(3)] == [1, 2, 3]


INSTANCE = '+sip.instance="<urn:uuid:1>"'


@pytest.mark.parametrize(
    ("known", "asked", "same"),
    [
        ("<sip:ue@10.0.0.2:5062>", "<sip:ue@10.0.0.2:5062>;q=0.5", True),
        ("<sip:ue@10.0.0.2:5062>", "sip:ue@10.0.0.2:5062", True),
        ("<sip:ue@10.0.0.2:5062;transport=tcp>", "<sip:ue@10.0.0.2:5062>", False),
        ("<sip:ue@10.0.0.2:5062>", "<sip:ue@10.0.0.2>", False),
        ("<sip:ue@[2001:DB8::0:2]>", "<sip:ue@[2001:db8::2]>", True),
        (f"<sip:ue@a>;{INSTANCE};reg-id=1", f"<sip:ue@b>;{INSTANCE};reg-id=1", True),
        (f"<sip:ue@a>;{INSTANCE};reg-id=1", f"<sip:ue@a>;{INSTANCE};reg-id=2", False),
        (f"<sip:ue@a>;{INSTANCE}", f"<sip:ue@b>;{INSTANCE}", False),
        ("<sip:ue@a>;reg-id=1", "<sip:ue@a>;reg-id=2", True),
    ],
)
def test_which_contacts_are_the_same(known: str, asked: str, same: bool) -> None:
    """RFC 3261 10.3 by URI; RFC 5626 6 by instance and reg-id, where both are there."""
    made = binding(known)
    assert same_contact([made], Contact.parse(asked)) is (made if same else None)


def test_a_phone_is_known_by_its_instance() -> None:
    mine, others = binding(f"<sip:ue@a>;{INSTANCE}"), binding(f"<sip:ue@b>;{INSTANCE}", impi="b@ims.example")
    flow = binding(f"<sip:ue@c>;{INSTANCE};reg-id=1")
    known = [mine, others, flow, binding("<sip:ue@d>")]
    assert same_device(known, Contact.parse(f"<sip:ue@new>;{INSTANCE}"), "a@ims.example") == [mine]
    assert same_device(known, Contact.parse(f"<sip:ue@new>;{INSTANCE};reg-id=2"), "a@ims.example") == []
    assert same_device(known, Contact.parse("<sip:ue@new>"), "a@ims.example") == []


def test_a_registration_is_small() -> None:
    """What one more user costs, without his strings: a few hundred octets."""
    made = registration()
    assert not hasattr(made, "__dict__")
    assert not hasattr(made.bindings[0], "__dict__")
    assert sys.getsizeof(made) + sys.getsizeof(made.bindings[0]) < 400
