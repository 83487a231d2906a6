"""The bottle's certificates, judged by OpenSSL's strictest verifier and by their extensions."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from claude_bottle.sidecars.egress.certs import CertAndKey, make_ca, make_leaf, make_leaves

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


def handshake(ca: CertAndKey, leaf: CertAndKey, name: str, folder: Path) -> str:
    """The name that a strict client took the server for; raises what the client raises."""
    pem = folder / "leaf.pem"
    pem.write_text(leaf.cert_pem + leaf.key_pem)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    client = ssl.create_default_context(cadata=ca.cert_pem)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    ours, theirs = socket.socketpair()

    def serve() -> None:
        try:
            server.wrap_socket(theirs, server_side=True).close()
        except OSError:
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(ours, server_hostname=name) as stream:
            return str(stream.server_hostname)
    finally:
        ours.close()
        thread.join()


@pytest.mark.parametrize(
    ("server_name", "asked"),
    [
        ("api.example.org", "api.example.org"),
        ("*.example.org", "a.example.org"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
    ],
)
def test_a_strict_verifier_accepts_a_leaf(server_name: str, asked: str, tmp_path: Path) -> None:
    ca = make_ca("bottle")
    assert handshake(ca, make_leaf(ca, server_name), asked, tmp_path) == asked


@pytest.mark.parametrize(
    ("server_name", "asked"),
    [
        ("api.example.org", "other.example.org"),
        ("*.example.org", "example.org"),
        ("*.example.org", "a.b.example.org"),
    ],
)
def test_a_leaf_is_for_its_name_only(server_name: str, asked: str, tmp_path: Path) -> None:
    ca = make_ca("bottle")
    with pytest.raises(ssl.SSLCertVerificationError, match="ostname"):
        handshake(ca, make_leaf(ca, server_name), asked, tmp_path)


def test_the_ca_of_another_bottle_of_the_same_name_is_not_trusted(tmp_path: Path) -> None:
    leaf = make_leaf(make_ca("bottle"), "api.example.org")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(make_ca("bottle"), leaf, "api.example.org", tmp_path)


def test_a_leaf_cannot_sign(tmp_path: Path) -> None:
    ca = make_ca("bottle")
    middle = make_leaf(ca, "api.example.org")
    leaf = make_leaf(middle, "victim.example.org")
    chained = CertAndKey(leaf.cert_pem + middle.cert_pem, leaf.key_pem)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(ca, chained, "victim.example.org", tmp_path)


def test_the_extensions_of_the_ca() -> None:
    certificate = x509.load_pem_x509_certificate(make_ca("claude-bottle demo-abc12").cert_pem.encode())
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)

    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, 0)
    assert (usage.critical, usage.value.key_cert_sign, usage.value.digital_signature) == (True, True, False)
    assert "CN=claude-bottle demo-abc12" in certificate.subject.rfc4514_string()


def test_the_extensions_of_a_leaf() -> None:
    ca = make_ca("bottle")
    issuer = x509.load_pem_x509_certificate(ca.cert_pem.encode())
    certificate = x509.load_pem_x509_certificate(make_leaf(ca, "api.example.org").cert_pem.encode())
    find = certificate.extensions.get_extension_for_class

    assert not find(x509.BasicConstraints).value.ca
    assert find(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName) == ["api.example.org"]
    assert list(find(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.SERVER_AUTH]
    key_id = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert find(x509.AuthorityKeyIdentifier).value.key_identifier == key_id
    certificate.verify_directly_issued_by(issuer)


def test_both_are_valid_from_an_hour_ago_for_thirty_days() -> None:
    ca = make_ca("bottle", now=NOW)
    for made in (ca, make_leaf(ca, "api.example.org", now=NOW)):
        certificate = x509.load_pem_x509_certificate(made.cert_pem.encode())
        assert certificate.not_valid_before_utc == NOW - timedelta(hours=1)
        assert certificate.not_valid_after_utc == NOW + timedelta(days=30)


def test_leaves_share_a_key_that_is_not_the_cas() -> None:
    ca = make_ca("bottle")
    leaves = make_leaves(ca, ("a.example.org", "b.example.org"))

    assert list(leaves) == ["a.example.org", "b.example.org"]
    keys = {leaf.key_pem for leaf in leaves.values()}
    assert len(keys) == 1
    assert ca.key_pem not in keys
    serials = {
        x509.load_pem_x509_certificate(leaf.cert_pem.encode()).serial_number for leaf in leaves.values()
    }
    assert len(serials) == 2


def test_a_key_is_not_shown() -> None:
    ca = make_ca("bottle")
    assert "PRIVATE KEY" in ca.key_pem
    assert "PRIVATE KEY" not in repr(ca)


@pytest.mark.parametrize("operators", [None, "0", ""])
def test_what_the_library_is_told_reaches_no_other_program(
    operators: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "CRYPTOGRAPHY_OPENSSL_NO_LEGACY"
    monkeypatch.delenv(name, raising=False)
    if operators is not None:
        monkeypatch.setenv(name, operators)
    script = (
        "import os; from claude_bottle.sidecars.egress.certs import make_ca; before = dict(os.environ);"
        "make_ca('bottle'); assert before == dict(os.environ), 'the environment has changed';"
        "from cryptography.hazmat.bindings._rust import openssl; print(openssl._legacy_provider_loaded)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout.strip() == str(operators in ("0", ""))
