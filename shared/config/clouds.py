"""The clouds that have Graph's calls API, and their addresses."""

from dataclasses import dataclass

_GLOBAL_METADATA = "https://api.aps.skype.com/v1/.well-known/OpenIdConfiguration"
_GOV_METADATA = "https://apigcch.botframework.azure.us/v1/.well-known/OpenIdConfiguration"
# Microsoft.Graph.Communications 1.2.0.18742: its validator accepts Entra tokens of these apps.
_CALLING_SERVICE = "26a18ebc-cdf7-4a6a-91cb-beb352805e81"
_GOV_CALLING_SERVICE = "e736143e-5e30-4821-9609-0b032986a3a3"


@dataclass(frozen=True, slots=True)
class Cloud:
    """The addresses of one cloud.

    `metadata_urls` lead to the keys of notification tokens of the legacy kind. `notification_callers` are the client
    ids of the apps that send notifications with tokens of Entra. `assertion_audience` is the audience of a managed
    identity's token that is used as a client assertion.
    """

    name: str
    graph_root: str
    authority: str
    assertion_audience: str
    metadata_urls: tuple[str, ...]
    notification_callers: frozenset[str]


# Graph: "National cloud deployments" page. Notifications in GCC High were seen with tokens of both metadata.
_L4 = Cloud(
    name="usgov-l4",
    graph_root="https://graph.microsoft.us",
    authority="https://login.microsoftonline.us",
    assertion_audience="api://AzureADTokenExchangeUSGov",
    metadata_urls=(_GOV_METADATA, _GLOBAL_METADATA),
    notification_callers=frozenset({_CALLING_SERVICE, _GOV_CALLING_SERVICE}),
)
_L5 = Cloud(
    name="usgov-l5",
    graph_root="https://dod-graph.microsoft.us",
    authority="https://login.microsoftonline.us",
    assertion_audience="api://AzureADTokenExchangeUSGov",
    metadata_urls=(_GOV_METADATA, _GLOBAL_METADATA),
    notification_callers=frozenset({_CALLING_SERVICE, _GOV_CALLING_SERVICE}),
)
_GLOBAL = Cloud(
    name="global",
    graph_root="https://graph.microsoft.com",
    authority="https://login.microsoftonline.com",
    assertion_audience="api://AzureADTokenExchange",
    metadata_urls=(_GLOBAL_METADATA,),
    notification_callers=frozenset({_CALLING_SERVICE}),
)
CLOUDS = {cloud.name: cloud for cloud in (_GLOBAL, _L4, _L5)}


def get_cloud(name: str) -> Cloud:
    """Return the cloud with this name.

    Raises
    ------
    ValueError
        There is no such cloud, or Graph has no calls API in it.
    """
    if name == "china":
        raise ValueError(
            "china: Graph's calls API, with keepAlive, is not available in the cloud operated by 21Vianet "
            "(Graph: call-keepAlive page). Use global, usgov-l4 or usgov-l5"
        )
    if name not in CLOUDS:
        raise ValueError("must be global, usgov-l4 or usgov-l5")
    return CLOUDS[name]
