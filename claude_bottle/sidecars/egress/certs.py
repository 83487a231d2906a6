"""The certificate authority of one bottle, and the leaves that end TLS for its inspected hosts.

Invariant: a CA is made for one bottle, is trusted inside that bottle only, and its key never leaves
the process that made it. All leaves of a bottle share one key: they sit in the same file and guard
the same boundary, and making keys is most of the cost. Each leaf names one host only, so that no
HTTP/2 client reuses the connection to one host for another.

There are no name constraints: the CA is trusted before the operator approves further hosts.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

BACKDATED = timedelta(hours=1)  # a guest's clock may run behind the host's
LIFETIME = timedelta(days=30)
ORGANIZATION = "claude-bottle"
_NO_LEGACY = "CRYPTOGRAPHY_OPENSSL_NO_LEGACY"


class CertAndKey(NamedTuple):
    """PEM text. The key stays out of `repr`, so that no log and no traceback shows it."""

    cert_pem: str
    key_pem: str

    def __repr__(self) -> str:
        return f"CertAndKey(cert_pem={self.cert_pem!r})"


def _load_library() -> None:
    """Without OpenSSL's old ciphers, a third of the time. It asks while it loads, so no child hears of it."""
    unset = _NO_LEGACY not in os.environ
    os.environ.setdefault(_NO_LEGACY, "1")
    try:
        import cryptography.x509  # noqa: F401 - it reads the variable
    finally:
        if unset:
            del os.environ[_NO_LEGACY]


def make_ca(common_name: str, *, now: datetime | None = None) -> CertAndKey:
    """A new self-signed CA that may sign leaves and nothing else."""
    _load_library()
    from cryptography import x509

    key = _new_key()
    name = _name(common_name)
    builder = _builder(name, name, key, now)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
    return CertAndKey(_sign(builder, key), _key_pem(key))


def make_leaf(ca: CertAndKey, server_name: str, *, now: datetime | None = None) -> CertAndKey:
    """One leaf with a key of its own. `server_name` is a host or `*.suffix`."""
    return make_leaves(ca, (server_name,), now=now)[server_name]


def make_leaves(
    ca: CertAndKey, server_names: Iterable[str], *, now: datetime | None = None
) -> dict[str, CertAndKey]:
    """A leaf for each name, all with one new key."""
    _load_library()
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    ca_cert = x509.load_pem_x509_certificate(ca.cert_pem.encode())
    ca_key = load_pem_private_key(ca.key_pem.encode(), password=None)
    key = _new_key()
    key_pem = _key_pem(key)
    subject = _name(None)
    leaves = {}
    for server_name in server_names:
        builder = _builder(subject, ca_cert.subject, key, now)
        for extension, critical in _leaf_extensions(server_name, ca_cert):
            builder = builder.add_extension(extension, critical=critical)
        # `load_pem_private_key` is typed as any kind of key; ours is always the EC key of make_ca.
        leaves[server_name] = CertAndKey(_sign(builder, ca_key), key_pem)  # type: ignore[arg-type]
    return leaves


def _leaf_extensions(server_name: str, ca_cert: x509.Certificate) -> list[tuple[x509.ExtensionType, bool]]:
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    issuer = ca_cert.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_key_usage(digital_signature=True), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer), False),
        (x509.SubjectAlternativeName([x509.DNSName(server_name)]), False),
    ]


def _builder(
    subject: x509.Name, issuer: x509.Name, key: EllipticCurvePrivateKey, now: datetime | None
) -> x509.CertificateBuilder:
    from cryptography import x509

    moment = datetime.now(UTC) if now is None else now
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - BACKDATED)
        .not_valid_after(moment + LIFETIME)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(common_name: str | None) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANIZATION)]
    if common_name is not None:
        attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
    return x509.Name(attributes)


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _new_key() -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _sign(builder: x509.CertificateBuilder, key: EllipticCurvePrivateKey) -> str:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding

    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode("ascii")


def _key_pem(key: EllipticCurvePrivateKey) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem.decode("ascii")
