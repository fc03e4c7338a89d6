"""lab.yaml: what is read, from where, and the one line that a wrong one gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from imslab.config import LARGEST, LabConfig, load
from imslab.core.errors import LocalError
from tests import lab_yaml_page


def write(folder: Path, text: str) -> Path:
    path = folder / "lab.yaml"
    path.write_text(text)
    return path


def test_no_file_is_a_lab_of_two() -> None:
    config = load()
    assert [each.imsi for each in config.subscribers] == ["001010000000001", "001010000000002"]
    assert config.home_domain == "ims.mnc001.mcc001.3gppnetwork.org"


def test_an_empty_file_is_the_same(tmp_path: Path) -> None:
    assert load(write(tmp_path, "# nothing yet\n")) == load()


def test_the_environment_wins_over_the_file_and_an_argument_over_both(tmp_path: Path) -> None:
    path = write(tmp_path, "seed: 1\nscscf: {expires_min: 10}\nip: 4\n")
    environment = {"IMSLAB_SEED": "7", "IMSLAB_SCSCF__EXPIRES_MAX": "90", "IMSLAB_REQUIRE": "tshark", "HOME": "/root"}
    config = load(path, environment, ip=6, seed=None)
    assert (config.seed, config.scscf.expires_min, config.scscf.expires_max, config.ip) == (7, 10, 90, 6)


def test_a_three_digit_mnc_stays_and_a_two_digit_one_is_padded() -> None:
    assert load(mnc="001").home_domain == load(mnc="01").home_domain
    assert load(mcc="310", mnc="410").home_domain == "ims.mnc410.mcc310.3gppnetwork.org"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("pcscf:\n  algoritms: []\n", "pcscf.algoritms: no such key"),
        ("seed: [1, 2", "line 1, column 12: not YAML"),
        ("- a\n- b\n", "expected a mapping of keys to values, found list"),
        ("mnc: 01\n", "mnc: expected digits in quotes"),
        ("links: {gm: {loss: 2}}\n", "links.gm.loss: expected less than or equal to 1"),
        ("subscribers: []\n", "subscribers: "),
        ("subscribers: [{imsi: '1', k: '00'}]\n", "subscribers.0: k: expected 32 or 64 hex digits, got 2"),
        ("subscribers: [{imsi: '1', k: 11111111111111111111111111111111}]\n", "expected hex digits in quotes"),
        ("subscribers: [{imsi: '1', k: 'xyz'}]\n", "expected hex digits"),
        (
            "subscribers: [{imsi: '1', k: '00112233445566778899aabbccddeeff'}]\n",
            "subscribers.0: expected exactly one of opc and op",
        ),
        (
            "subscribers: [{imsi: '1', k: '00112233445566778899aabbccddeeff', op: '00'}]\n",
            "op: expected 32 hex digits, got 2",
        ),
        ("ue: {algorithms: [[hmac-sha-1-96, aes-gcm]]}\n", "is not a combination of 33.203 Annex H"),
        ("pcscf: {algorithms: []}\n", "expected at least one [alg, ealg]"),
        ("pcscf: {faults: pcscf-keys-on-gm}\n", "pcscf.faults: expected a list"),
        ("seed: 1.5\n", "seed: expected a whole number or text"),
        ("seed: 1\nip: 4\nseed: 2\n", "line 3, column 1: not YAML: 'seed' stands there twice"),
        ("? [a]\n: b\n", "unhashable key"),
        ("ip: !!int abc\n", "not YAML: invalid literal"),
        ("ip: !!int ''\n", "not YAML: a value does not fit its tag"),
        ("seed: !!timestamp x\n", "not YAML: a value does not fit its tag"),
        ("seed: " + "9" * 5000, "not YAML: Exceeds the limit"),
        ("[" * 50_000, "not YAML: nested too deeply"),
        ("#" * (LARGEST + 1), "expected a lab.yaml of up to 2097152 octets"),
        ("domain: a b\n", "domain: expected a host name"),
        ("domain: example.org:5060\n", "domain: expected a host name"),
        ('ue: {access_network: "a\\r\\nX: y"}\n', "ue.access_network: expected one line"),
        ("subscribers: [{imsi: '1', k: '00', impus: [junk]}]\n", "subscribers.0.impus: 'junk': expected a SIP or tel"),
        ("subscribers: [{imsi: '1', k: '00', impus: ['http://a']}]\n", "expected a SIP or tel URI"),
        ("subscribers: [{imsi: '1', k: '001'}]\n", "subscribers.0.k: expected pairs of hex digits, got 3 digits"),
    ],
)
def test_a_wrong_line_is_named_in_one_line(tmp_path: Path, text: str, told: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(LocalError) as caught:
        load(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert told in line
    assert "\n" not in line


def test_two_subscribers_with_one_imsi_are_refused(tmp_path: Path) -> None:
    each = "{imsi: '001010000000009', k: '00112233445566778899aabbccddeeff', op: '00112233445566778899aabbccddeeff'}"
    with pytest.raises(LocalError, match="IMSI 001010000000009 stands there twice"):
        load(write(tmp_path, f"subscribers: [{each}, {each}]\n"))


def test_an_environment_variable_cannot_go_into_a_value() -> None:
    with pytest.raises(LocalError, match="IMSLAB_SEED__DEEPER: seed is not a mapping"):
        load(None, {"IMSLAB_SEED": "1", "IMSLAB_SEED__DEEPER": "2"})


def test_a_wrong_variable_is_named() -> None:
    with pytest.raises(LocalError, match=r"^IMSLAB_LINKS__GM__LOSS: links\.gm\.loss: "):
        load(None, {"IMSLAB_LINKS__GM__LOSS": "[1"})
    with pytest.raises(LocalError, match=r"^IMSLAB_SEAD: sead: no such key"):
        load(None, {"IMSLAB_SEAD": "1"})


def test_asking_for_a_traceback_is_no_configuration() -> None:
    assert load(None, {"IMSLAB_TRACEBACK": "1"}) == load()


def test_a_date_is_a_seed_like_any_other(tmp_path: Path) -> None:
    for date in ("2026-11-23", "2026-99-99"):
        assert load(write(tmp_path, f"seed: {date}\n")).seed == date


def test_public_identities_may_be_sip_or_tel(tmp_path: Path) -> None:
    text = "subscribers: [{imsi: '001010000000001', k: '%s', opc: '%s', impus: ['sip:a@b', 'tel:+1234']}]\n"
    assert load(write(tmp_path, text % ("00" * 16, "00" * 16))).subscribers[0].impus == ("sip:a@b", "tel:+1234")


def test_a_file_that_is_not_there_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.yaml")


def test_keys_are_shown_by_nobody(tmp_path: Path) -> None:
    config = load()
    secret = config.subscribers[0].k.get_secret_value()
    for text in (repr(config), str(config), config.model_dump_json()):
        assert secret.hex() not in text
    key = "0011223344556677"
    with pytest.raises(LocalError) as caught:
        load(write(tmp_path, f"subscribers: [{{imsi: '1', k: '{key}'}}]\n"))
    assert key not in str(caught.value)


def test_the_page_of_keys_agrees_with_the_model() -> None:
    assert lab_yaml_page.PAGE.read_text() == lab_yaml_page.page()
    assert "None" not in lab_yaml_page.page(), "every key needs a description"
    assert len(lab_yaml_page.page().splitlines()) > len(LabConfig.model_fields)
