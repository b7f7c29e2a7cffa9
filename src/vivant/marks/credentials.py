"""Content credentials (C2PA): a signed statement inside the file of what made it. Needs the extra `marks`.

By default the certificate is made here, on the user's machine, and nobody vouches for it: readers say "valid, issuer
not trusted". A certificate that somebody vouches for can be given instead. MP4, MOV, PNG, JPEG and WebP are signed.
"""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vivant.errors import InputError
from vivant.marks.ingredients import (
    UNTRUSTED,
    Ingredient,
    IngredientTold,
    State,
    add_signed,
    told,
    without_credentials,
)
from vivant.media.staging import output_errors
from vivant.store import store_folder

if TYPE_CHECKING:
    from cryptography import x509

SIGNED_SUFFIXES = (".mp4", ".m4v", ".mov", ".png", ".jpg", ".jpeg", ".webp")
STATEMENT = "org.vivant.made"
"""Label of our own assertion."""
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
"""IPTC: made by a trained model, with parts of a captured picture."""
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_AT_HOME = {"verify": {"remote_manifest_fetch": False}}
"""Settings for c2pa: looking at a file asks nobody elsewhere, whatever addresses the file names."""
_YEARS = 10
_ORGANIZATION = "vivant (self-made certificate)"


@dataclass(frozen=True)
class Certificate:
    """Chain and key, PEM: the signing certificate first."""

    chain: bytes
    key: bytes
    algorithm: Literal["ed25519", "es256"]


@dataclass(frozen=True)
class Credentials:
    """What a file says of itself."""

    state: State
    """valid: intact, and a trusted issuer. untrusted: intact, and nobody vouches for the issuer. tampered: changed
    since it was signed. absent: says nothing. unreadable: no such file is signed, or the extra is missing."""
    issuer: str | None = None
    statement: Mapping[str, Any] | None = None
    """Our own assertion, where vivant made it."""
    problem: str | None = None
    ingredients: tuple[IngredientTold, ...] = ()
    """What it was made of."""


def is_available() -> bool:
    """Whether the extra `marks` is installed."""
    return find_spec("c2pa") is not None and find_spec("cryptography") is not None


def sign(
    source: Path,
    signed: Path,
    statement: Mapping[str, Any],
    certificate: Certificate,
    ingredients: tuple[Ingredient, ...] = (),
) -> None:
    """Write `source` as `signed`, with the statement inside. Raises InputError where the certificate is no good."""
    import c2pa

    definition = _manifest(statement) | {"ingredients": without_credentials(ingredients)}
    context = c2pa.Context(c2pa.Settings.from_dict({"builder": {"thumbnail": {"enabled": False}}} | _AT_HOME))
    try:
        with _signer(certificate) as signer, c2pa.Builder(json.dumps(definition), context) as builder:
            add_signed(builder, ingredients)
            builder.sign_file(source, signed, signer)
    except c2pa.C2paError as error:
        raise InputError(
            f"the file cannot be signed: {error}; check --certificate, or use --no-credentials."
        ) from error


def _signer(certificate: Certificate) -> Any:
    import c2pa

    algorithm = (
        c2pa.C2paSigningAlg.ED25519 if certificate.algorithm == "ed25519" else c2pa.C2paSigningAlg.ES256
    )
    return c2pa.Signer.from_info(c2pa.C2paSignerInfo(algorithm, certificate.chain, certificate.key, None))


def _check_signs(certificate: Certificate, path: Path) -> None:
    """Sign one pixel, now and not when all frames are made. Raises InputError."""
    import c2pa
    from PIL import Image

    pixel, signed = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (1, 1)).save(pixel, "PNG")
    pixel.seek(0)
    try:
        with (
            _signer(certificate) as signer,
            c2pa.Builder(json.dumps(_manifest({"vivant": ""}))) as builder,
        ):
            builder.sign(signer, "image/png", pixel, signed)
    except c2pa.C2paError as error:
        raise InputError(
            f"{path} cannot sign: {error}; check --certificate, or use --no-credentials."
        ) from error


def read(path: Path) -> Credentials:
    """What the file says of itself, and whether that is intact."""
    if not is_available() or path.suffix.lower() not in SIGNED_SUFFIXES:
        missing = "install 'vivant[marks]'" if not is_available() else "not a kind of file that is signed"
        return Credentials("unreadable", problem=missing)
    import c2pa

    try:
        with c2pa.Reader(path, context=c2pa.Context(c2pa.Settings.from_dict(_AT_HOME))) as reader:
            store, state = json.loads(reader.json()), str(reader.get_validation_state())
    except c2pa.C2paError as error:
        text = str(error)
        if "remote manifest" in text:
            text = "its credentials lie elsewhere, and nobody is asked for them"
        return (
            Credentials("absent")
            if "ManifestNotFound" in text or "no JUMBF" in text
            else Credentials("unreadable", problem=text)
        )
    active = store["manifests"][store["active_manifest"]]
    statement = next((a["data"] for a in active.get("assertions", ()) if a["label"] == STATEMENT), None)
    problems = [status["code"] for status in store.get("validation_status", ())]
    wrong = [code for code in problems if code != UNTRUSTED]
    issuer = active.get("signature_info", {}).get("issuer")
    if state.lower() == "invalid" or wrong:
        return Credentials("tampered", issuer, statement, ", ".join(wrong) or None, told(store))
    return Credentials("untrusted" if problems else "valid", issuer, statement, ingredients=told(store))


def is_signed(path: Path) -> bool:
    """Whether the file says something of itself, intact or not."""
    return path.is_file() and read(path).state in ("valid", "untrusted", "tampered")


def own_certificate() -> Certificate:
    """The user's self-made one; made when it is first needed, and kept where only the user can read it."""
    path = store_folder() / "credentials.pem"
    if path.is_file():
        return load_certificate(path)
    made = _self_made()
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(made.key + made.chain)
        os.replace(temporary, path)
    return made


def load_certificate(path: Path) -> Certificate:
    """A PEM file with a private key (Ed25519 or P-256) and its chain, signing certificate first. Raises InputError."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    try:
        text = path.read_bytes()
        key = serialization.load_pem_private_key(text, None)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path} has no private key that can be read: {error}.") from error
    # Only these: whatever else is called part of the chain, such as the key, would go into every signed file.
    certificates = _CERTIFICATE.findall(text)
    is_p256 = isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1)
    if not certificates or not (is_p256 or isinstance(key, ed25519.Ed25519PrivateKey)):
        raise InputError(f"{path} should hold an Ed25519 or P-256 key and its certificates.")
    plain = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    chain = b"\n".join(certificates) + b"\n"
    certificate = Certificate(chain, plain, "es256" if is_p256 else "ed25519")
    _check_signs(certificate, path)
    return certificate


def _manifest(statement: Mapping[str, Any]) -> dict[str, Any]:
    made = {"action": "c2pa.created", "digitalSourceType": SOURCE_TYPE, "softwareAgent": {"name": "vivant"}}
    return {
        "claim_generator_info": [{"name": "vivant", "version": statement["vivant"]}],
        "title": "animated portrait",
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": [made]}},
            {"label": STATEMENT, "data": dict(statement)},
        ],
    }


def _self_made() -> Certificate:
    """A certificate authority that is forgotten at once, and one certificate of it for signing."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519
    from cryptography.x509.oid import ExtendedKeyUsageOID

    root_key, key = ed25519.Ed25519PrivateKey.generate(), ed25519.Ed25519PrivateKey.generate()
    root_name, name = _name("root"), _name("signer")
    root = (
        _dated(root_name, root_name, root_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(root_key, None)
    )
    signer = (
        _dated(name, root_name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False
        )
        .sign(root_key, None)
    )
    chain = b"".join(made.public_bytes(serialization.Encoding.PEM) for made in (signer, root))
    plain = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Certificate(chain, plain, "ed25519")


def _name(common: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, _ORGANIZATION),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )


def _dated(name: x509.Name, issuer: x509.Name, key: Any) -> x509.CertificateBuilder:
    from cryptography import x509

    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=365 * _YEARS))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
