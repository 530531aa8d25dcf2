"""Settings that make the management routes require an Entra token, and such tokens, from the simulator."""

import socket
from uuid import uuid4

import httpx

AUDIENCE = "api://call-keeper-end-to-end"
MANAGEMENT_TENANT = "5b0c9d1e-7f3a-4b26-8e4d-9a1c2b3d4e5f"
ROLES = ["Calls.Read", "Calls.Manage", "Recordings.Read"]
DAY = 86_400  # seconds


def free_port() -> int:
    """Return a free port for the simulator, if the host's settings must name it before it runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def settings() -> dict[str, str]:
    """Return the settings of the host that require tokens. The simulator issues them."""
    return {"MANAGEMENT_AUDIENCE": AUDIENCE, "MANAGEMENT_TENANT_ID": MANAGEMENT_TENANT}


def token(simulator: str, **wanted: object) -> str:
    """Return a token of a caller with all roles, valid for a day, or with other values."""
    usual = {"tenantId": MANAGEMENT_TENANT, "audience": AUDIENCE, "roles": ROLES, "expiresIn": DAY}
    response = httpx.post(f"{simulator}/control/tokens", json={"appId": str(uuid4()), **usual, **wanted}, timeout=30)
    return str(response.raise_for_status().json()["token"])


def bearer(simulator: str, **wanted: object) -> dict[str, str]:
    """Return the `Authorization` header with such a token."""
    return {"Authorization": f"Bearer {token(simulator, **wanted)}"}
