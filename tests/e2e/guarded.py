"""A stack whose management routes ask for an Entra token, and such tokens, from the simulator."""

import socket
from uuid import uuid4

import httpx

AUDIENCE = "api://call-keeper-end-to-end"
MANAGEMENT_TENANT = "5b0c9d1e-7f3a-4b26-8e4d-9a1c2b3d4e5f"
ISSUER = f"https://login.microsoftonline.com/{MANAGEMENT_TENANT}/v2.0"
ROLES = ["Calls.Read", "Calls.Manage", "Recordings.Read"]
A_DAY = 86_400  # seconds


def free_port() -> int:
    """For the simulator, which the settings of the host must name before it runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def asking(simulator_port: int) -> dict[str, str]:
    """The settings that ask for tokens of the simulator at this port."""
    metadata = f"http://127.0.0.1:{simulator_port}/{MANAGEMENT_TENANT}/v2.0/.well-known/openid-configuration"
    return {
        "MANAGEMENT_AUDIENCE": AUDIENCE,
        "MANAGEMENT_TENANT_ID": MANAGEMENT_TENANT,
        "MANAGEMENT_METADATA_URL": metadata,
        "MANAGEMENT_ISSUERS": ISSUER,
    }


def token(simulator: str, **wanted: object) -> str:
    """A token of a caller with all roles, good for a day; or as it is wanted."""
    usual = {"tenantId": MANAGEMENT_TENANT, "audience": AUDIENCE, "issuer": ISSUER, "roles": ROLES, "expiresIn": A_DAY}
    answer = httpx.post(f"{simulator}/control/tokens", json={"appId": str(uuid4()), **usual, **wanted}, timeout=30)
    return str(answer.raise_for_status().json()["token"])


def bearer(simulator: str, **wanted: object) -> dict[str, str]:
    """The header with such a token."""
    return {"Authorization": f"Bearer {token(simulator, **wanted)}"}
