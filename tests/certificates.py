"""Certificates of a test's own authority, so that a client verifies the server."""

import datetime
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

_HOST = "127.0.0.1"


def write_certificates(folder):
    """Write `ca.crt`, `server.crt`, `server.key` for 127.0.0.1, and `sa.key` (tokens)."""
    authority, server = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    tokens = rsa.generate_private_key(65537, 2048)
    root = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test authority")])
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "kube-apiserver")])
    # Python 3.13 verifies strictly: RFC 5280 wants the identifiers and the usage of keys.
    above = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key())
    signs = _usage(key_cert_sign=True, crl_sign=True)
    own = _begun(root, root, authority)
    own = own.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    own = own.add_extension(signs, critical=True).add_extension(above, critical=False)
    leaf = _begun(name, root, server)
    leaf = leaf.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
    leaf = leaf.add_extension(_usage(digital_signature=True), critical=True)
    leaf = leaf.add_extension(above, critical=False)
    served = [x509.IPAddress(ipaddress.ip_address(_HOST)), x509.DNSName("localhost")]
    leaf = leaf.add_extension(x509.SubjectAlternativeName(served), critical=False)
    serves = x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH])
    leaf = leaf.add_extension(serves, critical=False)
    pem = serialization.Encoding.PEM
    for file, made in (("ca.crt", own), ("server.crt", leaf)):
        signed = made.sign(authority, hashes.SHA256())
        (folder / file).write_bytes(signed.public_bytes(pem))
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    for file, key in (("server.key", server), ("sa.key", tokens)):
        (folder / file).write_bytes(key.private_bytes(pem, form, plain))


def _begun(name, issuer, key):
    """A certificate of a key, valid from an hour ago for two days."""
    now = datetime.datetime.now(datetime.UTC)
    found = x509.CertificateBuilder().subject_name(name).issuer_name(issuer)
    found = found.public_key(key.public_key()).serial_number(x509.random_serial_number())
    found = found.not_valid_before(now - datetime.timedelta(hours=1))
    found = found.not_valid_after(now + datetime.timedelta(days=2))
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return found.add_extension(identifier, critical=False)


def _usage(**given):
    names = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{name: given.get(name, False) for name in names})
