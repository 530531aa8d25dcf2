"""The settings of the app in the bench: storage by Azurite, Graph and the managed identity on this machine."""

from bench.workload import IN_FLIGHT

MAX_RATE = 10_000  # the maximum of GRAPH_REQUESTS_PER_SECOND: no client here is faster


def app_settings(storage: str, graph: str, requests_per_second: int = MAX_RATE) -> dict[str, str]:
    """Return the settings that a deployment would have.

    Parameters
    ----------
    storage
        Connection string of the storage account.
    graph
        Address of the Graph that counts.
    requests_per_second
        The rate limit of requests to Graph.
    """
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
