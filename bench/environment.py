"""The settings of the app as the bench runs it: storage in memory, Graph and identity on this machine."""

from bench.load import IN_FLIGHT

FASTEST = 10_000  # GRAPH_REQUESTS_PER_SECOND at its most: faster than any client here


def app_settings(storage: str, graph: str, requests_per_second: int = FASTEST) -> dict[str, str]:
    """What a deployment would have, for a storage by its connection string and a Graph by its address."""
    return {
        "KEEP_ALIVE_SCHEDULE": "0 */15 * * * *",
        "KEEP_ALIVE_CONCURRENCY": str(IN_FLIGHT),
        "CALLS_STORAGE": storage,
        "AzureWebJobsStorage": storage,
        "GRAPH_APP_ID": "3f1d9a52-7c84-4e0b-a6d9-1b5c2e8f7a60",
        "GRAPH_BASE_URL": graph,
        "GRAPH_CREDENTIAL": "managedIdentity",
        "GRAPH_REQUESTS_PER_SECOND": str(requests_per_second),
        "IDENTITY_ENDPOINT": f"{graph}/msi/token",  # azure-identity: App Service's managed identity
        "IDENTITY_HEADER": "bench",
        "NOTIFICATION_METADATA_URLS": f"{graph}/openid",
    }
