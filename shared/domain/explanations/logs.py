"""What lines of a device's log say: the texts of device SDKs, of TLS, of DPS and of hubs, and what each one means.

Where the texts come from stands beside each of them. A line is known by its text: codes alone are the same for several
things.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.domain.explanations.parts import Cause, Kind, Remedy
from shared.redaction import without_secrets

if TYPE_CHECKING:
    from collections.abc import Sequence

_LINE_LIMIT, _LINES_LIMIT = 400, 50
_DPS_TROUBLE = "Microsoft, How to troubleshoot DPS"
_HUB_TROUBLE = "Microsoft, Understand and resolve Azure IoT Hub errors"
_TLS_ALERTS = "RFC 8446 section 6.2; OpenSSL's names of alerts"


@dataclass(frozen=True, slots=True)
class Message:
    """A text that a log can have.

    Attributes:
        code: names what it means, for programs.
        pattern: by which a line is known.
        meaning: what it says about the device.
        to_do: what helps, if the device's own explanation shows nothing.
        source: where the text is documented.
    """

    code: str
    pattern: re.Pattern[str]
    meaning: str
    to_do: str
    source: str


def _message(code: str, pattern: str, meaning: str, to_do: str, source: str) -> Message:
    return Message(code, re.compile(pattern, re.IGNORECASE), meaning, to_do, source)


MESSAGES: Sequence[Message] = (
    # DPS, by its own texts; the first that fits is taken.
    _message(
        "dpsAllocationFailed",
        r"Custom allocation failed|\b400207\b",
        "DPS took the device's certificate; the webhook of its custom allocation policy failed, or named a hub that is "
        "not linked",
        "See to the webhook of the group's allocation policy, and to the hubs that it names.",
        "Azure/iotedge issue 3233",
    ),
    _message(
        "dpsAuthorityNotFound",
        r"CA certificate not found",
        "the chain that the device sent does not reach a CA that is verified in DPS: as a rule it sends its own "
        "certificate without the intermediates",
        "Have the device send the whole chain of its bundle, its own certificate first.",
        "rwatjen/AzureIoTDPSCertificates issue 3; Azure/azure-iot-sdk-csharp issue 1010",
    ),
    _message(
        "dpsNoGroup",
        r"Signing certificate info did not match chain elements",
        "a CA of the chain is verified in DPS, and no enrollment group holds one of the chain's CAs",
        "Compare the CA that signed the device's certificate with those that its group holds.",
        "Azure/azure-iot-sdk-node issue 532",
    ),
    _message(
        "dpsDisabled",
        r"Enrollment is disabled",
        "the entry of DPS that decides about the device is disabled",
        "Enable the group, or the device's individual enrollment.",
        "Microsoft, How to disenroll or revoke a device from DPS",
    ),
    _message(
        "dpsInvalidCertificate",
        r"\bInvalid certificate\b",
        "DPS refuses the device's certificate itself: it has expired, its CN is not the registration id, or the "
        "device's individual enrollment holds another one",
        "Send the chain that is on the device to POST /api/explanations as 'certificate'.",
        "microsoft/vscode-iot-workbench issue 590",
    ),
    _message(
        "hubThumbprint",
        r"Thumbprint does not match configuration",
        "the hub knows the device by another certificate than it came with",
        "Have the device register with DPS again: that gives the hub its present certificate.",
        _HUB_TROUBLE,
    ),
    _message(
        "dpsNotFound",
        r"\b404201\b|\b404202\b",
        "DPS does not have the entry or the registration record that was asked for",
        "See whether the ID scope is right, and have the device register anew.",
        "MicrosoftDocs/azure-docs issue 57082",
    ),
    _message(
        "throttled",
        r"\b429001\b|\b429\b.*(?:throttl|too many)|Operations are being throttled|ThrottlingException",
        "a service has had more calls than it takes",
        "Have the device wait, longer each time and by chance; not all devices may begin at the same moment.",
        _DPS_TROUBLE,
    ),
    _message(
        "dpsUnauthorized",
        r"\b401002\b",
        "DPS or the hub does not let the device in, and the line does not say why",
        "Send the chain that is on the device to POST /api/explanations as 'certificate'.",
        _DPS_TROUBLE,
    ),
    # Hubs.
    _message(
        "hubQuota",
        r"\b403002\b|IoTHubQuotaExceeded",
        "the hub has had as many messages today as its units take",
        "Add units to the hub, or wait until midnight UTC.",
        _HUB_TROUBLE,
    ),
    _message(
        "twoClients",
        r"\b400027\b|ConnectionForcefullyClosedOnNewConnection",
        "another client has connected as the same device: two devices have the same certificate and key, or an old "
        "process still runs",
        "Find the other client. If a key was copied, revoke the device with reason keyCompromise.",
        _HUB_TROUBLE,
    ),
    _message(
        "hubUnknownDevice",
        r"\b404001\b|DeviceNotFound|does not contain the specified device",
        "the hub has no identity for the device",
        "Have the device register with DPS again: its identity is made anew.",
        _HUB_TROUBLE,
    ),
    _message(
        "hubNotAuthorized",
        r"Connection Refused: not authori[sz]ed|0x0?5: Not Authorized|RefusedNotAuthorized"
        r"|Credentials invalid, could not connect|CONNACK.{0,40}\b(?:rc|code)\W{0,3}5\b|\b401003\b"
        r"|IoTHubUnauthorized",
        "the hub refused the connection (MQTT return code 5): the device's identity is missing there, disabled, or for "
        "another certificate",
        "Have the device register with DPS again, and connect to the hub that DPS answers.",
        "Azure/azure-iot-sdk-python issue 324, Azure/azure-iot-sdks issue 985, Azure/azure-iot-sdk-csharp issue 113; "
        + _HUB_TROUBLE,
    ),
    # TLS: what the device finds wrong with the service.
    _message(
        "clockBehind",
        r"certificate is not yet valid|CERT_NOT_YET_VALID",
        "the device takes the service's certificate for one of the future: its clock is behind",
        "Set the device's clock by NTP before it connects.",
        "OpenSSL, X509_V_ERR_CERT_NOT_YET_VALID",
    ),
    _message(
        "clockAheadOrOldRoots",
        r"certificate has expired|CERT_HAS_EXPIRED",
        "the device takes the service's certificate, or a root of its own store, for expired: its clock is ahead, or "
        "its store of root certificates is old",
        "Set the device's clock by NTP, and bring its store of root certificates up to date.",
        "OpenSSL, X509_V_ERR_CERT_HAS_EXPIRED",
    ),
    _message(
        "wrongHostName",
        r"hostname mismatch|Hostname/IP does not match|doesn't match either of",
        "the device connects to a name that the service's certificate does not have",
        "Use the host names that DPS and this app give; a proxy that opens TLS has to be left out.",
        "OpenSSL, X509_V_ERR_HOSTNAME_MISMATCH",
    ),
    _message(
        "serviceNotTrusted",
        r"CERTIFICATE_VERIFY_FAILED|certificate verify failed|unable to get (?:local )?issuer certificate"
        r"|self[- ]signed certificate in certificate chain|UNABLE_TO_GET_ISSUER_CERT|due to TLS exchanges",
        "the device does not trust the service's certificate: the root above it is not in the device's store, or "
        "somebody in between opens the connection",
        "Put the roots that Microsoft names for DPS and IoT Hub into the device's store (DigiCert Global Root G2 and "
        "Microsoft RSA Root CA 2017).",
        "Azure/azure-iot-sdk-python issues 914 and 960, Azure/azure-iot-sdk-c issue 2398; Microsoft, TLS support in "
        "IoT Hub",
    ),
    # TLS: what the service, or the device's own library, finds wrong with the device's certificate.
    _message(
        "keyDoesNotMatch",
        r"key values mismatch|KEY_VALUES_MISMATCH",
        "the private key on the device does not belong to its certificate",
        "Put certificate and key of the same bundle onto the device. One that made its own key needs the certificate "
        "that was issued for that CSR.",
        "OpenSSL, X509_R_KEY_VALUES_MISMATCH",
    ),
    _message(
        "certificateAlert",
        r"alert (?:bad certificate|certificate expired|certificate revoked|certificate unknown|unsupported certificate"
        r"|unknown ca|certificate required|no certificate|decrypt error|handshake failure)",
        "the service ended the TLS handshake over the device's certificate: it was not sent, can't be read, or its key "
        "was not the right one",
        "Send the chain that is on the device to POST /api/explanations as 'certificate', and see that the device is "
        "told to use it.",
        _TLS_ALERTS,
    ),
    _message(
        "unauthorized",
        r"\bUnauthorized\b",
        "a service did not let the device in, and the line does not say why",
        "Send more lines, or the chain that is on the device as 'certificate'.",
        _DPS_TROUBLE,
    ),
    # The way there.
    _message(
        "nameNotResolved",
        r"getaddrinfo|Name or service not known|Temporary failure in name resolution|ENOTFOUND|No such host is known",
        "the device can't resolve the service's name",
        "See to the device's DNS and network.",
        "Azure/azure-iot-sdk-c issue 564",
    ),
    _message(
        "notReached",
        r"ECONNREFUSED|ETIMEDOUT|EHOSTUNREACH|Network is unreachable|Connection timed out|Errno 111",
        "the device does not get through to the service",
        "Open ports 8883 (MQTT) or 443 (websockets, HTTPS) to DPS and the hub, in firewalls as well.",
        "Microsoft, Communicate with an IoT hub using the MQTT protocol",
    ),
)

_NAMED = (
    re.compile(r"/registrations/([A-Za-z0-9\-._:]{1,64})/api-version", re.IGNORECASE),
    re.compile(r"\"registrationId\"\s*:\s*\"([A-Za-z0-9\-._:]{1,64})\"", re.IGNORECASE),
    re.compile(r"\bdevices/([A-Za-z0-9\-._:]{1,64})/", re.IGNORECASE),
    re.compile(r"\b(?:registration[ _]?id|device[ _]?id)\W{1,4}([A-Za-z0-9\-._:]{1,64})", re.IGNORECASE),
)
"""Where a log names the device: topics and user names of MQTT, JSON of DPS, and what people write."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line that says something; ``number`` counts from 1, and secrets in ``text`` are replaced by a mark."""

    number: int
    text: str
    message: Message


def recognised(log: str) -> tuple[Line, ...]:
    """Find the lines that say something, in their order; of very many the first."""
    found = list[Line]()
    for number, line in enumerate(without_secrets(log).splitlines(), start=1):
        message = next((each for each in MESSAGES if each.pattern.search(line)), None)
        if message is not None and len(found) < _LINES_LIMIT:
            found.append(Line(number, line.strip()[:_LINE_LIMIT], message))
    return tuple(found)


def devices_named(log: str) -> tuple[str, ...]:
    """Give the ids that a log may name its device by, each once."""
    return tuple(dict.fromkeys(each.rstrip(".:") for pattern in _NAMED for each in pattern.findall(log)))


def log_causes(lines: Sequence[Line]) -> tuple[Cause, ...]:
    """Say what the lines mean, the most telling first: in the order of the table, each meaning once."""
    seen = {line.message.code for line in lines}
    told = [each for each in MESSAGES if each.code in seen]
    return tuple(Cause(each.code, Kind.FAULT, each.meaning, Remedy(each.to_do)) for each in told)


def not_recognised(log: str) -> Cause:
    """Say that no line says anything that is known here."""
    count = len(log.splitlines())
    return Cause(
        "nothingRecognised",
        Kind.UNKNOWN,
        f"none of the {count} lines has a text of a device SDK, of TLS, of DPS or of a hub that is known here",
        Remedy("Send the lines around the failure, with the level of the log at debug."),
    )
