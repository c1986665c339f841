"""Everybody outside the app, for the demo and the end-to-end tests: ERP, installer, devices, operators.

They use Microsoft's SDKs and plain HTTP, and nothing of the app's own code.
"""

from __future__ import annotations

import gc
import hmac
import html
import json
import os
import re
import subprocess
import sys
import time
import warnings
from base64 import b64decode, b64encode
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import requests
from azure.core import MatchConditions
from azure.data.tables import TableClient
from azure.identity import ManagedIdentityCredential
from azure.iot.device import X509, IoTHubDeviceClient, Message, ProvisioningDeviceClient
from azure.iot.device.exceptions import ClientError, ServiceError
from azure.iot.hub import IoTHubRegistryManager
from azure.keyvault.secrets import SecretClient
from azure.mgmt.iothub.v2023_06_30 import IotHubClient
from azure.mgmt.iothubprovisioningservices import IotDpsClient
from azure.mgmt.iothubprovisioningservices.models import CertificateProperties, CertificateResponse
from azure.storage.blob import BlobClient
from azure.storage.queue import QueueClient, QueueServiceClient, TextBase64EncodePolicy
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    pkcs12,
)
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from devstack.stack import Endpoints, Stack

REPOSITORY = Path(__file__).parents[1]
PATIENCE_SECONDS = 60.0
_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 0.4
"""Each question takes processor time away from what is being waited for."""
_MISSING = object()


class Failed(Exception):
    """Something was not seen to work; the message says what."""


def until[T](what: str, ask: Callable[[], T], good: Callable[[T], bool], *, seconds: float = PATIENCE_SECONDS) -> T:
    """Ask again and again until the answer is good, and give it.

    Raises:
        Failed: it was not in time; with the last answer.
    """
    deadline, pause = time.monotonic() + seconds, _FIRST_PAUSE_SECONDS
    while True:
        answer = ask()
        if good(answer):
            return answer
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not seen within {seconds:.0f} s; the last answer was {str(answer)[:800]}")
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)


_SIGNED = frozenset(
    {
        ("POST", "revocations"),
        ("POST", "devices/*/revoke"),
        ("POST", "devices/*/reinstate"),
        ("DELETE", "devices/*"),
        ("POST", "device-orders/*/cancel"),
        ("POST", "certificate-authorities/*/revoke"),
    }
)
"""What needs the signature of a webhook where the deployment has a secret for it."""


def _words_of(page: str) -> str:
    """Give what somebody reads on a page."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


def _shape(path: str) -> str:
    bare = path.partition("?")[0]
    return re.sub(r"^(devices|device-orders|certificate-authorities)/[^/]+", r"\1/*", bare)


def signed(secret: str, identifier: str, stamp: int, body: bytes) -> dict[str, str]:
    """Give the headers of a webhook (standardwebhooks.com, scheme v1)."""
    key = b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, f"{identifier}.{stamp}.".encode() + body, sha256).digest()
    return {
        "webhook-id": identifier,
        "webhook-timestamp": str(stamp),
        "webhook-signature": f"v1,{b64encode(digest).decode()}",
    }


class World:
    """One running stack, seen from outside.

    Args:
        endpoints: of the stack.
        devices: folder in which the devices keep what is theirs.
        on_answer: is given every answer of the app's API.
        on_event: is given every event, once each time it comes.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        devices: Path,
        *,
        on_answer: Callable[[requests.Response], None] = lambda _: None,
        on_event: Callable[[dict[str, Any]], None] = lambda _: None,
    ) -> None:
        os.environ.update(endpoints.environment())
        self._endpoints = endpoints
        self._folder = devices
        self._credential = ManagedIdentityCredential()
        self._http = requests.Session()
        self.on_answer = on_answer
        self._http.hooks["response"] = [lambda answer, **_: on_answer(answer)]
        self._on_event = on_event
        self._queues = QueueServiceClient(endpoints.queue_service_url, credential=self._credential)
        self._own_queues = {
            queue: QueueServiceClient(url, credential=self._credential)
            for queue, url in endpoints.own_queue_service_urls.items()
        }
        self._events: dict[str, dict[str, Any]] = {}
        self._devices: dict[str, Device] = {}
        self._webhook_secret: str | None = None

    def close(self) -> None:
        """Close all connections."""
        for service in (self._queues, *self._own_queues.values()):
            service.close()
        self._http.close()
        self._credential.close()
        _discard_leftovers()

    # --- the ERP ---

    def plain_queue(self, name: str) -> QueueClient:
        """Give a queue, for messages as they are: what the app's queues do not take."""
        return self._service_of(name).get_queue_client(name)

    def _service_of(self, queue: str) -> QueueServiceClient:
        return self._own_queues.get(queue.removesuffix("-poison"), self._queues)

    def queue(self, name: str) -> QueueClient:
        """Give a queue, for messages in base64."""
        return self._service_of(name).get_queue_client(name, message_encode_policy=TextBase64EncodePolicy())

    def post_message(self, queue: str, body: Any) -> None:
        """Put a message into a queue."""
        self.queue(queue).send_message(body if isinstance(body, str) else json.dumps(body))

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Give all events of a type that came so far, each once."""
        queue = self._queues.get_queue_client("provisioning-events")
        while messages := list(queue.receive_messages(messages_per_page=32, max_messages=32)):
            for message in messages:
                event = json.loads(b64decode(message.content))
                self._on_event(event)
                self._events[event["id"]] = event
                queue.delete_message(message)
        return [event for event in self._events.values() if event["type"] == kind]

    # --- HTTP ---

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        """Call the app's API with the function key; what revokes is signed, if there is a secret for it."""
        headers = {"x-functions-key": self._endpoints.function_key, **options.pop("headers", {})}
        if self._webhook_secret is not None and (method, _shape(path)) in _SIGNED:
            options["data"] = json.dumps(options.pop("json")).encode() if options.get("json") is not None else b""
            identifier = headers.pop("Idempotency-Key", None) or token_hex(16)
            headers |= signed(self._webhook_secret, identifier, int(time.time()), options["data"])
        url = f"{self._endpoints.functions_url}/api/{path}"
        return self._http.request(method, url, headers=headers, timeout=60, **options)

    def unsigned(self, method: str, path: str, **options: Any) -> requests.Response:
        """Call the app's API with the function key and nothing else."""
        headers = {"x-functions-key": self._endpoints.function_key, **options.pop("headers", {})}
        url = f"{self._endpoints.functions_url}/api/{path}"
        return self._http.request(method, url, headers=headers, timeout=60, **options)

    def sign_webhooks(self, name: str, secret: str) -> None:
        """Store the secret of webhooks in the vault, and sign with it from now on."""
        self.put_secret(name, secret)
        self._webhook_secret = secret.strip()

    def get(self, path: str, *, missing: Any = _MISSING) -> Any:
        """Read JSON; ``missing`` stands for a 404.

        Raises:
            Failed: the answer is not 200.
        """
        answer = self.request("GET", path)
        if answer.status_code == requests.codes.not_found and missing is not _MISSING:
            return missing
        if answer.status_code != requests.codes.ok:
            raise Failed(f"GET {path}: {answer.status_code} {answer.text[:500]}")
        return answer.json()

    def post(self, path: str, body: Any = None) -> requests.Response:
        """Post JSON."""
        return self.request("POST", path, json=body)

    def followed(self, answer: requests.Response) -> Any:
        """Follow what was accepted to its end, by its location alone, and give it as it is then."""
        location = answer.headers["location"].removeprefix("/api/")
        return until(
            f"the end of {location}",
            lambda: self.request("GET", location, headers={"Prefer": "wait=10"}).json(),
            lambda body: body["state"] in {"done", "rejected"},
        )

    def open_group(self, group: str, *, root: str = "dpsCa", request_id: str = "g") -> None:
        """Have a root and an enrollment group made, and wait until the one is verified and the other enabled."""
        self.post_message("certificate-requests", {"requestId": "root", "kind": "root", "name": root})
        until(
            "the root is verified",
            lambda: self.get(f"certificate-authorities/{root}", missing={}),
            lambda body: body.get("proofOfPossession") == "verified",
        )
        wanted = {"requestId": request_id, "enrollmentGroup": group, "action": "create"}
        self.post_message("enrollment-group-requests", wanted)
        until(
            "the group is enabled",
            lambda: self.get(f"enrollment-groups/{group}", missing={}),
            lambda body: body.get("state") == "enabled",
        )

    def anonymous(self, path: str) -> bytes:
        """Read without a key.

        Raises:
            Failed: the answer is not 200.
        """
        answer = self._http.get(f"{self._endpoints.functions_url}/api/{path}", timeout=60)
        if answer.status_code != requests.codes.ok:
            raise Failed(f"GET {path} without a key: {answer.status_code} {answer.text[:500]}")
        return answer.content

    @property
    def console_url(self) -> str:
        """Give the address of the console."""
        return f"{self._endpoints.functions_url}/api/console"

    @contextmanager
    def console(self) -> Iterator[Callable[[str], str]]:
        """Sign in to the console with the function key, as a browser does, and give what reads its pages as text.

        Raises:
            Failed: the sign-in, or a page, is refused.
        """

        def read(path: str) -> str:
            answer = browser.get(f"{self.console_url}{path}", allow_redirects=False, timeout=60)
            if answer.status_code != requests.codes.ok:
                raise Failed(f"the page {path!r} of the console: {answer.status_code} {_words_of(answer.text)[:500]}")
            return _words_of(answer.text)

        with requests.Session() as browser:
            form, origin = {"key": self._endpoints.function_key}, {"Origin": self._endpoints.functions_url}
            answer = browser.post(
                f"{self.console_url}/sign-in", data=form, headers=origin, allow_redirects=False, timeout=60
            )
            if answer.status_code != requests.codes.see_other:
                raise Failed(f"the sign-in to the console: {answer.status_code} {_words_of(answer.text)[:500]}")
            yield read

    def state(self, registration_id: str) -> str | None:
        """Give a device's state, ``None`` if the device does not exist."""
        device = self.get(f"devices/{registration_id}", missing=None)
        return str(device["state"]) if device else None

    def bundle_status(self, registration_id: str, *, caller: str = "") -> int:
        """Ask for a bundle as a caller of that name, and give the status alone."""
        headers = {"Idempotency-Key": caller} if caller else {}
        return self.request("GET", f"devices/{registration_id}/bundle", headers=headers).status_code

    def confirm_bundle(self, registration_id: str) -> int:
        """Confirm that a bundle was received, and give the status."""
        return self.request("DELETE", f"devices/{registration_id}/bundle").status_code

    def switch_group(self, group: str, action: str) -> None:
        """Disable or enable a group, and wait until DPS has it so."""
        self.post(f"enrollment-groups/{group}/{action}")
        wanted = {"disable": "disabled", "enable": "enabled"}[action]
        until(
            f"{group} is {wanted}",
            lambda: self.get(f"enrollment-groups/{group}"),
            lambda body: body["state"] == wanted and body["provisioningService"]["provisioningStatus"] == wanted,
        )

    # --- the services themselves ---

    def dps_says_verified(self, name: str) -> bool:
        """Ask DPS, not the app, whether a CA certificate is verified."""
        with self.managed(IotDpsClient, self._endpoints.dps_resource_id) as (client, group, service):
            properties = client.dps_certificate.get(name, group, service).properties
        return bool(properties and properties.is_verified)

    @contextmanager
    def full_dps(self, certificate: bytes) -> Iterator[None]:
        """Take all places for CA certificates that the DPS has left, by one certificate in PEM, for a while."""
        with self.managed(IotDpsClient, self._endpoints.dps_resource_id) as (client, group, service):
            certificates = client.dps_certificate
            left = 25 - len(certificates.list(group, service).value or [])
            names = [f"filler-{number}" for number in range(left)]
            body = CertificateResponse(properties=CertificateProperties(certificate=certificate))
            for name in names:
                certificates.create_or_update(group, service, name, body)
            try:
                yield
            finally:
                for name in names:
                    etag = certificates.get(name, group, service).etag or ""
                    certificates.delete(group, service, name, etag=etag, match_condition=MatchConditions.IfNotModified)

    def hub_says_verified(self, name: str) -> bool:
        """Ask the first hub, not the app, whether a CA certificate is verified."""
        with self.managed(IotHubClient, self._endpoints.iot_hubs[0]["resourceId"]) as (client, group, hub):
            properties = client.certificates.get(group, hub, name).properties
        return bool(properties and properties.is_verified)

    @contextmanager
    def managed[C](self, kind: Callable[..., C], resource_id: str) -> Iterator[tuple[C, str, str]]:
        """Give a client of a resource's management API, and the resource's group and name."""
        _, _, subscription, _, group, *_, name = resource_id.split("/")
        client: Any = kind(
            self._credential,
            subscription,
            base_url=self._endpoints.arm_url,
            credential_scopes=["https://management.azure.com/.default"],
        )
        with client:
            yield client, group, name

    @property
    def hub_name(self) -> str:
        """Give the first hub's host name."""
        return self._endpoints.iot_hubs[0]["hostName"]

    @property
    def hub_names(self) -> list[str]:
        """Give all hubs' host names."""
        return [each["hostName"] for each in self._endpoints.iot_hubs]

    def hub_identity(self, hub: str, device_id: str) -> str:
        """Ask a hub, not the app, for a device's status."""
        return str(self.identity(hub, device_id).status)

    def identity(self, hub: str, device_id: str) -> Any:
        """Ask a hub, not the app, for a device's identity."""
        urls = {each["hostName"]: each["serviceUrl"] for each in self._endpoints.iot_hubs}
        registry = IoTHubRegistryManager.from_token_credential(urls[hub].removeprefix("https://"), self._credential)
        return registry.get_device(device_id)

    def told_to_register_again(self, hub: str, device_id: str) -> str | None:
        """Ask a hub, not the app, which id scope a device's twin tells it to register with; ``None`` for none."""
        urls = {each["hostName"]: each["serviceUrl"] for each in self._endpoints.iot_hubs}
        registry = IoTHubRegistryManager.from_token_credential(urls[hub].removeprefix("https://"), self._credential)
        return (registry.get_twin(device_id).properties.desired.get("registerAgain") or {}).get("idScope")

    def link_hubs(self, *hosts: str) -> None:
        """Link these hubs to the DPS and no others, as its owner does."""
        url = f"{self._endpoints.emulator_admin_url}/linked-hubs"
        self._http.put(url, json={"iotHubs": hosts}, timeout=10).raise_for_status()

    def disable_identity(self, device_id: str, why: str = "lost") -> None:
        """Disable a device's identity in the hub that it is in, as somebody does in the portal."""
        hub = str(self.get(f"devices/{device_id}")["assignedHub"])
        urls = {each["hostName"]: each["serviceUrl"] for each in self._endpoints.iot_hubs}
        registry = IoTHubRegistryManager.from_token_credential(urls[hub].removeprefix("https://"), self._credential)
        known = registry.get_device(device_id)
        thumbprints = known.authentication.x509_thumbprint
        registry.update_device_with_x509(
            device_id,
            known.etag,
            thumbprints.primary_thumbprint,
            thumbprints.secondary_thumbprint,
            "disabled",
            status_reason=why,
        )

    def devices_in_hub(self) -> int:
        """Ask the first hub how many devices it has."""
        host = self._endpoints.iot_hubs[0]["serviceUrl"].removeprefix("https://")
        registry = IoTHubRegistryManager.from_token_credential(host, self._credential)
        return int(registry.get_device_registry_statistics().total_device_count or 0)

    def table(self, name: str) -> TableClient:
        """Give a table of the ledger, for looking behind the app's back."""
        return TableClient(self._endpoints.table_service_url, name, credential=self._credential)

    def telemetry(self, hub: str, device_id: str) -> list[Any]:
        """Give the messages that a hub received from a device."""
        answer = self._http.get(
            f"{self._endpoints.emulator_admin_url}/telemetry", params={"hub": hub, "device": device_id}, timeout=10
        )
        answer.raise_for_status()
        body = answer.json()
        messages = body["messages"] if isinstance(body, dict) else body
        return [message["body"] for message in messages]

    def secret(self, url: str) -> str:
        """Read a vault secret, as an installer with a role on the vault does."""
        client = SecretClient(self._endpoints.key_vault_url, self._credential, verify_challenge_resource=False)
        with client:
            return str(client.get_secret(url.rsplit("/", 1)[1]).value)

    def put_secret(self, name: str, value: str) -> None:
        """Store a vault secret, as an operator does."""
        client = SecretClient(self._endpoints.key_vault_url, self._credential, verify_challenge_resource=False)
        with client:
            client.set_secret(name, value)

    def download(self, url: str) -> bytes:
        """Read a blob."""
        with BlobClient.from_blob_url(url, credential=self._credential) as client:
            return client.download_blob().readall()

    def upload(self, container: str, name: str, content: bytes) -> str:
        """Put a blob, and give its URL."""
        url = f"{self._endpoints.blob_service_url}/{container}/{name}"
        with BlobClient.from_blob_url(url, credential=self._credential) as client:
            client.upload_blob(content, overwrite=True)
        return url

    def withhold_roles(self, *services: str) -> None:
        """Take away the identities' roles at these emulated services, and give all others back."""
        answer = self._http.put(
            f"{self._endpoints.emulator_admin_url}/roles", json={"withheld": list(services)}, timeout=10
        )
        answer.raise_for_status()

    def plan_faults(self, *rules: dict[str, Any], seed: int = 0) -> None:
        """Let the emulated services fail as planned; without rules, no more."""
        answer = self._http.put(
            f"{self._endpoints.emulator_admin_url}/faults", json={"seed": seed, "rules": list(rules)}, timeout=10
        )
        answer.raise_for_status()

    def throttle(self, **setting: Any) -> dict[str, Any]:
        """Set the throttling of the emulated services, or leave it, and give how it is, with the calls it counted."""
        url = f"{self._endpoints.emulator_admin_url}/throttling"
        answer = self._http.put(url, json=setting, timeout=10) if setting else self._http.get(url, timeout=10)
        answer.raise_for_status()
        shown: dict[str, Any] = answer.json()
        return shown

    def applied_faults(self) -> list[int]:
        """Tell how often each planned rule was applied."""
        answer = self._http.get(f"{self._endpoints.emulator_admin_url}/faults", timeout=10)
        answer.raise_for_status()
        return [rule["applied"] for rule in answer.json()["rules"]]

    def device(self, registration_id: str) -> Device:
        """Give a device, which keeps its own files."""
        if registration_id not in self._devices:
            self._devices[registration_id] = Device(self, self._endpoints, registration_id, self._folder)
        return self._devices[registration_id]

    @staticmethod
    def check(holds: bool, what: str) -> None:  # noqa: FBT001 - reads as a sentence
        """Insist.

        Raises:
            Failed: it does not hold.
        """
        if not holds:
            raise Failed(f"this does not hold: {what}")


class Device:
    """A device with its own files: a key and a certificate chain, and nothing else."""

    def __init__(self, world: World, endpoints: Endpoints, registration_id: str, folder: Path) -> None:
        self._world = world
        self._endpoints = endpoints
        self._id = registration_id
        self._folder = folder / registration_id
        self._folder.mkdir(parents=True, exist_ok=True)
        self._key = self._folder / "key.pem"
        self._bundle = self._folder / "bundle.pem"
        self._password: str | None = None
        self._hub: tuple[str, str] | None = None

    def make_own_key(self) -> str:
        """Make a key that stays here, and give a CSR for it."""
        key = ec.generate_private_key(ec.SECP256R1())
        self._key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self._id)])
        request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
        return request.public_bytes(Encoding.PEM).decode()

    def sign_itself(self) -> str:
        """Make a key and a certificate of one's own, as a device of another maker has it, and give that in PEM."""
        self.make_own_key()
        key = load_pem_private_key(self._key.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)  # noqa: S101 - made a line above
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self._id)])
        begins = datetime.now(UTC) - timedelta(minutes=1)
        certificate = (
            x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(begins + timedelta(days=1))
            .sign(key, hashes.SHA256())
        )
        self._bundle.write_bytes(certificate.public_bytes(Encoding.PEM))
        return self._bundle.read_text()

    def take_certificate(self, key: ec.EllipticCurvePrivateKey, *chain: x509.Certificate) -> None:
        """Take a key and a chain that others have made."""
        self._key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        self._bundle.write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in chain))

    def take_bundle(self) -> None:
        """Receive the bundle, and the password that travels separately.

        Raises:
            Failed: it is not handed out.
        """
        answer = self._world.request("GET", f"devices/{self._id}/bundle")
        if answer.status_code != requests.codes.ok:
            raise Failed(f"the bundle of {self._id}: {answer.status_code} {answer.text[:500]}")
        self._bundle.write_bytes(answer.content)
        secret = answer.headers.get("x-password-secret")
        if secret:
            self._password = self._world.secret(secret)
            self._key = self._bundle

    @property
    def bundle_file(self) -> Path:
        """Where its bundle is."""
        return self._bundle

    def certificates(self) -> list[x509.Certificate]:
        """Give the certificates of its bundle: its own, and those of the CAs that it sends along."""
        return x509.load_pem_x509_certificates(self._bundle.read_bytes())

    def chain(self) -> str:
        """Give the certificates that it sends, in PEM."""
        certificates = x509.load_pem_x509_certificates(self._bundle.read_bytes())
        return "".join(each.public_bytes(Encoding.PEM).decode() for each in certificates)

    def take_pfx(self) -> tuple[str, list[str]]:
        """Receive the bundle as PKCS#12 and open it.

        Returns:
            The leaf's subject, and those of its chain.

        Raises:
            Failed: it is not handed out, or holds no key.
        """
        answer = self._world.request("GET", f"devices/{self._id}/bundle?format=pfx")
        if answer.status_code != requests.codes.ok:
            raise Failed(f"the PFX of {self._id}: {answer.status_code} {answer.text[:500]}")
        (self._folder / "bundle.pfx").write_bytes(answer.content)
        password = self._world.secret(answer.headers["x-password-secret"])
        opened = pkcs12.load_pkcs12(answer.content, password.encode())
        if opened.key is None or opened.cert is None:
            raise Failed(f"the PFX of {self._id} holds no key")
        chain = [each.certificate.subject.rfc4514_string() for each in opened.additional_certs]
        return opened.cert.certificate.subject.rfc4514_string(), chain

    def _credentials(self) -> X509:
        return X509(str(self._bundle), str(self._key), self._password)

    def register(self, id_scope: str | None = None) -> tuple[str, str]:
        """Register with DPS, as at first boot; with another one, if its id scope is given.

        Returns:
            The assigned hub and the device id there.

        Raises:
            ServiceError, ClientError: DPS refuses it.
        """
        client = ProvisioningDeviceClient.create_from_x509_certificate(
            provisioning_host=self._endpoints.dps_device_host,
            registration_id=self._id,
            id_scope=id_scope or self._endpoints.id_scope,
            x509=self._credentials(),
        )
        result = client.register()
        if result is None or result.registration_state is None:
            raise Failed(f"DPS gave {self._id} no registration state")
        self._hub = (result.registration_state.assigned_hub, result.registration_state.device_id)
        return self._hub

    def refused_by_dps(self, id_scope: str | None = None) -> bool:
        """Try to register, and tell whether DPS refused."""
        try:
            self.register(id_scope)
        except (ServiceError, ClientError) as error:  # the SDK wraps the service's answer
            return "401" in f"{error} {error.__cause__}"
        return False

    def refused_by_hub(self) -> bool:
        """Try to connect to the hub, and tell whether it refused."""
        refused = False
        try:
            with self.connected():
                pass
        except ClientError:
            refused = True
        _discard_leftovers()
        return refused

    @contextmanager
    def connected(self) -> Iterator[Connected]:
        """Connect to the assigned hub."""
        if self._hub is None:
            raise Failed(f"{self._id} has not registered, so it knows no hub")
        hub, device_id = self._hub
        client = IoTHubDeviceClient.create_from_x509_certificate(
            hostname=hub,
            device_id=device_id,
            x509=self._credentials(),
            connection_retry=False,
            auto_connect=False,
        )
        try:
            client.connect()
            yield Connected(client)
        finally:
            client.shutdown()


def _discard_leftovers() -> None:
    """Let go of sockets that the device SDK leaves open after a refused connection, and not in the middle of a test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


class Connected:
    """A device's open connection."""

    def __init__(self, client: IoTHubDeviceClient) -> None:
        self._client = client

    def send(self, reading: dict[str, Any]) -> None:
        """Send telemetry."""
        message = Message(json.dumps(reading))
        message.content_type, message.content_encoding = "application/json", "utf-8"
        self._client.send_message(message)

    def twin(self) -> dict[str, Any]:
        """Read the device's twin."""
        return dict(self._client.get_twin())


_SWEEP = """
import asyncio, os, sys
from datetime import datetime
from shared.services import build
from shared.settings import Settings

async def sweep(at):
    services = build(Settings.from_environment(os.environ), clock=lambda: at)
    try:
        return await services.lifetimes.expiry_sweep.run()
    finally:
        await services.close()

given = asyncio.run(sweep(datetime.fromisoformat(sys.argv[1])))
print(given["expiring"] + given["expired"])
"""


def sweep_at(stack: Stack, at: datetime) -> int:
    """Run the app's expiry sweep at another time, against the stack's ledger, and give how many it reported."""
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", _SWEEP, at.isoformat()],
        cwd=REPOSITORY,
        env={**os.environ, **stack.endpoints.environment(), **stack.settings()},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Failed(f"the sweep failed: {done.stderr[-2000:]}")
    return int(done.stdout)
