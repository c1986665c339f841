"""pkilint in process: every finding from NOTICE up."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from pkilint import loader, pkix
from pkilint.bin import lint_pkix_signer_signee_cert_chain as pair_linter
from pkilint.pkix import certificate, crl, extension, name, ocsp
from pkilint.validation import ValidationFindingSeverity


def findings_of_certificate(subject: Any) -> list[str]:
    validator = certificate.create_pkix_certificate_validator_container(
        certificate.create_decoding_validators(name.ATTRIBUTE_TYPE_MAPPINGS, extension.EXTENSION_MAPPINGS),
        [
            certificate.create_issuer_validator_container([]),
            certificate.create_validity_validator_container(),
            certificate.create_subject_validator_container([]),
            certificate.create_extensions_validator_container([]),
            certificate.create_spki_validator_container([]),  # RFC 8813 goes unchecked without it
        ],
    )
    document = loader.load_der_certificate(subject.public_bytes(Encoding.DER), "certificate")
    return _findings(validator.validate(document.root))


def findings_of_pair(issuer: Any, subject: Any) -> list[str]:
    """Lint how a certificate fits its issuer's: names, identifiers, policies, signature."""
    documents: dict[str, Any] = {}
    load = loader.RFC5280CertificateDocumentLoader().load_der_document
    for name_of, given in (("issuer", issuer), ("subject", subject)):
        documents[name_of] = load(given.public_bytes(Encoding.DER), name_of, name_of, documents)
    decoding = pair_linter.create_decoder_validation_container()
    results = [*decoding.validate(documents["issuer"].root), *decoding.validate(documents["subject"].root)]
    results += pair_linter.create_issuer_validation_container().validate(documents["issuer"].root)
    results += pair_linter.create_subject_validation_container().validate(documents["subject"].root)
    return _findings(results)


def findings_of_crl(der: bytes) -> list[str]:
    validator = crl.create_pkix_crl_validator_container(
        [
            pkix.create_attribute_decoder(name.ATTRIBUTE_TYPE_MAPPINGS),
            pkix.create_extension_decoder(extension.EXTENSION_MAPPINGS),
        ],
        [
            crl.create_issuer_validator_container([]),
            crl.create_validity_validator_container([]),
            crl.create_extensions_validator_container([]),
        ],
    )
    return _findings(validator.validate(loader.load_der_crl(der, "crl").root))


def findings_of_ocsp_response(der: bytes) -> list[str]:
    validator = ocsp.create_pkix_ocsp_response_validator_container(
        [
            ocsp.create_response_decoder(),
            pkix.create_attribute_decoder(name.ATTRIBUTE_TYPE_MAPPINGS),
            pkix.create_extension_decoder(extension.EXTENSION_MAPPINGS),
        ],
        [],
    )
    document = loader.RFC6960OCSPResponseDocumentLoader().load_der_document(der, "response")
    return _findings(validator.validate(document.root))


def _findings(results: Any) -> list[str]:
    return [
        f"{found.finding.code}: {found.message}"
        for result in results
        for found in result.finding_descriptions
        if found.finding.severity <= ValidationFindingSeverity.NOTICE  # FATAL is 0
    ]
