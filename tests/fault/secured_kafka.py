"""A Kafka that asks for TLS and for a name, and lets each do what it was given rights for."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import CreateAclsRequest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from tests.fault.certificates import Certificates
from tests.servers import lent
from tools.services.jars.kafka import KafkaNode

LOGIN = "org.apache.kafka.common.security"
TOPIC, GROUP, CLUSTER = 2, 3, 4
LITERAL, PREFIXED = 3, 4
READ, WRITE, CREATE, DESCRIBE, DESCRIBE_CONFIGS = 3, 4, 5, 8, 10
ALLOW = 3
Right = tuple[int, str, int]
"""What of, its name (or what it begins with), and what may be done."""


def settings_of(
    certificate: Path, authority: Path, passwords: dict[str, str], *, asks: bool
) -> dict[str, str]:
    """TLS, SCRAM and PLAIN where clients come in; without a right, nothing. Its own listener is
    open to who looks after it."""
    plain = " ".join(f'user_{name}="{password}"' for name, password in passwords.items())
    at = "listener.name.client"
    return {
        "listener.security.protocol.map": "CLIENT:SASL_SSL,BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
        f"{at}.ssl.keystore.type": "PEM",
        f"{at}.ssl.keystore.location": str(certificate),
        f"{at}.ssl.truststore.type": "PEM",
        f"{at}.ssl.truststore.location": str(authority),
        f"{at}.ssl.client.auth": "required" if asks else "requested",
        f"{at}.sasl.enabled.mechanisms": "SCRAM-SHA-512,PLAIN",
        f"{at}.scram-sha-512.sasl.jaas.config": f"{LOGIN}.scram.ScramLoginModule required;",
        f"{at}.plain.sasl.jaas.config": f"{LOGIN}.plain.PlainLoginModule required {plain};",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }


@contextmanager
def secured(
    kind: type[KafkaNode],
    folder: Path,
    certificates: Certificates,
    passwords: dict[str, str],
    *,
    asks: bool = False,
) -> Iterator[KafkaNode]:
    """Lends a node with these users, none of whom has a right yet. It `asks` for a certificate of
    theirs, too."""
    folder.mkdir()
    certificate = _in_its_form(certificates.server, folder / "server.pem")
    settings = settings_of(certificate, certificates.authority, passwords, asks=asks)
    node = kind(folder / "kafka", settings=settings)
    node.users = passwords
    with lent(node):
        yield node


def _in_its_form(pem: Path, place: Path) -> Path:
    """Writes a certificate with its key as Kafka reads them: the key as PKCS #8."""
    text = pem.read_bytes()
    key = load_pem_private_key(text, None)
    form = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    place.write_bytes(form + text[text.index(b"-----BEGIN CERTIFICATE") :])
    return place


def url_of(node: KafkaNode, user: str, password: str, options: str) -> str:
    login = f"{quote(user, safe='')}:{quote(password, safe='')}@" if user else ""
    return f"kafka://{login}{node.address}/?tls=true&{options}"


async def grant(node: KafkaNode, user: str, rights: Iterable[Right]) -> None:
    """Gives a user rights; the names of groups are what they begin with."""
    admin = AIOKafkaAdminClient(bootstrap_servers=node.own_address)
    await admin.start()
    try:
        for kind, name, may in rights:
            how = PREFIXED if kind == GROUP else LITERAL
            asked = CreateAclsRequest(kind, name, how, f"User:{user}", "*", may, ALLOW)
            answer = await admin._send_request(asked)
            assert [error for error, _ in answer.creation_responses] == [0]
    finally:
        await admin.close()
