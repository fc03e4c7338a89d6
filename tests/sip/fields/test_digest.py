"""Digest challenges and credentials."""

from __future__ import annotations

import pytest

from imslab.core.errors import LocalError, PeerError
from imslab.sip.fields.digest import AuthenticationInfo, DigestChallenge, DigestCredentials

CHALLENGE = (
    'Digest realm="ims.example", nonce="I1PLvqliN2idjE9dkDO2ZvJdX2o2EoAASpRPHsCtmRw=",algorithm=AKAv1-MD5,'
    ' qop="auth,auth-int", opaque="5ccc", stale=TRUE,  CK="00112233445566778899aabbccddeeff",'
    ' ik="ffeeddccbbaa99887766554433221100", x-new=1'
)
CREDENTIALS = (
    'Digest username="001010000000001@ims.example",realm="ims.example",nonce="abc=",uri="sip:ims.example",'
    'response="63175c06a7a88bd479f5c9f714487476",algorithm=AKAv1-MD5,cnonce="0a4f",qop=auth-int,nc=0000000A,'
    'auts="MDEyMzQ1Njc4OWFi",integrity-protected="yes"'
)


def test_challenge() -> None:
    challenge = DigestChallenge.parse(CHALLENGE)
    assert challenge.scheme == "Digest"
    assert (challenge.realm, challenge.nonce) == ("ims.example", "I1PLvqliN2idjE9dkDO2ZvJdX2o2EoAASpRPHsCtmRw=")
    assert (challenge.algorithm, challenge.qop, challenge.opaque) == ("AKAv1-MD5", "auth,auth-int", "5ccc")
    assert challenge.stale
    assert (challenge.ck, challenge.ik) == ("00112233445566778899aabbccddeeff", "ffeeddccbbaa99887766554433221100")
    assert challenge.get("X-NEW") == "1"
    assert challenge.cnonce is None
    assert challenge.nc is None
    assert str(challenge) == CHALLENGE


def test_keys_are_taken_out_and_nothing_else_changes() -> None:
    challenge = DigestChallenge.parse(CHALLENGE)
    assert challenge.remove("ck")
    assert challenge.remove("IK")
    assert not challenge.remove("ik")
    assert str(challenge) == (
        'Digest realm="ims.example", nonce="I1PLvqliN2idjE9dkDO2ZvJdX2o2EoAASpRPHsCtmRw=", algorithm=AKAv1-MD5,'
        ' qop="auth,auth-int", opaque="5ccc", stale=TRUE, x-new=1'
    )


def test_repr_shows_no_values() -> None:
    text = repr(DigestChallenge.parse(CHALLENGE))
    assert "CK" in text
    assert "00112233" not in text


def test_credentials() -> None:
    credentials = DigestCredentials.parse(CREDENTIALS)
    assert credentials.username == "001010000000001@ims.example"
    assert (credentials.uri, credentials.response) == ("sip:ims.example", "63175c06a7a88bd479f5c9f714487476")
    assert (credentials.cnonce, credentials.qop, credentials.nc) == ("0a4f", "auth-int", 10)
    assert credentials.auts == "MDEyMzQ1Njc4OWFi"
    assert credentials.integrity_protected == "yes"
    assert str(credentials) == CREDENTIALS


def test_an_empty_challenge_response() -> None:
    # 24.229 5.1.1.2.2: nonce and response present and empty.
    credentials = DigestCredentials.parse('Digest username="u", realm="r", nonce="", uri="sip:r", response=""')
    assert (credentials.nonce, credentials.response, credentials.auts) == ("", "", None)


@pytest.mark.parametrize(
    "text",
    [
        'Digest integrity-protected="no", Integrity-Protected="yes"',
        "digest integrity-protected=yes,username=u,INTEGRITY-PROTECTED=yes",
    ],
)
def test_what_is_there_twice_is_seen_and_removed_whole(text: str) -> None:
    credentials = DigestCredentials.parse(text)
    assert credentials.duplicates == ["integrity-protected"]
    assert len(credentials.get_all("integrity-protected")) == 2
    assert credentials.has("integrity-PROTECTED")
    with pytest.raises(PeerError, match="more than once"):
        _ = credentials.integrity_protected
    assert credentials.remove("integrity-protected")
    assert credentials.integrity_protected is None
    assert not credentials.has("integrity-protected")
    assert "rotected" not in str(credentials)


def test_setting() -> None:
    credentials = DigestCredentials.parse('Digest username="u",Integrity-Protected="no",x=1,integrity-protected="yes"')
    credentials.set("integrity-protected", "no")
    assert str(credentials) == 'Digest username="u", Integrity-Protected="no", x=1'
    credentials.set("qop", "auth")
    credentials.set("algorithm", "MD5")
    credentials.set("realm", 'a "b"')
    credentials.set("x", "2", quoted=False)
    assert str(credentials) == (
        'Digest username="u", Integrity-Protected="no", x=2, qop=auth, algorithm=MD5, realm="a \\"b\\""'
    )
    assert credentials.realm == 'a "b"'


def test_building() -> None:
    challenge = DigestChallenge.build(realm="r", nonce="n", algorithm="AKAv1-MD5", qop="auth", opaque=None)
    assert str(challenge) == 'Digest realm="r", nonce="n", algorithm=AKAv1-MD5, qop="auth"'
    credentials = DigestCredentials.build(username="u", nc=1, qop="auth", integrity_protected="no")
    assert str(credentials) == 'Digest username="u", nc=00000001, qop=auth, integrity-protected="no"'
    assert str(DigestCredentials([("username", '"u"')])) == 'Digest username="u"'


@pytest.mark.parametrize(("name", "value"), [("a b", "c"), ("a", ""), ("a", "b,c"), ("a", "b\r\nc"), ("a", '"')])
def test_what_cannot_be_written(name: str, value: str) -> None:
    with pytest.raises(LocalError):
        DigestCredentials([(name, value)])
    with pytest.raises(LocalError):
        DigestCredentials().set(name, value, quoted=False)


def test_a_quoted_value_of_two_lines_cannot_be_written_either() -> None:
    with pytest.raises(LocalError):
        DigestCredentials().set("realm", "a\r\nVia: b")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Digest",
        "Digest ",
        "Digest ,",
        "Digest a",
        "Digest a=",
        "Digest a=b,",
        "Digest a=b,,c=d",
        'Digest a="b',
        "Digest a=b c=d",
        "Digest a=b;c=d",
        "Digest a=b c",
        "=a b=c",
        "Digest a=b,c=d,e",
    ],
)
def test_malformed(text: str) -> None:
    with pytest.raises(PeerError):
        DigestChallenge.parse(text)


@pytest.mark.parametrize("nc", ["1", "0000000g", "000000001", ""])
def test_malformed_nc(nc: str) -> None:
    with pytest.raises(PeerError):
        _ = DigestCredentials.parse(f'Digest nc="{nc}"').nc


def test_copies_are_independent() -> None:
    credentials = DigestCredentials.parse(CREDENTIALS)
    copy = credentials.copy()
    assert copy == credentials
    assert str(copy) == CREDENTIALS
    copy.remove("auts")
    assert credentials.auts is not None
    assert copy != credentials
    assert copy != "x"
    other = DigestCredentials.parse("Basic a=b").copy()
    assert other.scheme == "Basic"


def test_equality_ignores_order_and_quotes() -> None:
    assert DigestCredentials.parse('Digest A="b", c=d') == DigestCredentials.parse("digest C=d,a=b")
    assert DigestCredentials.parse("Digest a=b") != DigestChallenge.parse("Digest a=b")


def test_authentication_info() -> None:
    text = 'nextnonce="abc", qop=auth,rspauth="00", cnonce="0a", nc=00000001'
    info = AuthenticationInfo.parse(text)
    assert (info.nextnonce, info.rspauth, info.qop, info.nc) == ("abc", "00", "auth", 1)
    assert str(info) == text
    assert str(AuthenticationInfo.build(nextnonce="n", qop="auth", nc=2)) == 'nextnonce="n", qop=auth, nc=00000002'
    assert info.copy() == info
    with pytest.raises(PeerError):
        AuthenticationInfo.parse("")
