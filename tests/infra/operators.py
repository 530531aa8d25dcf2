"""The modules that operators run with a bare `python3`. They and all that they import need no installed package."""

RUN_BY_OPERATORS = (
    "infra.azd",
    "infra.deploy",
    "infra.grant_graph_permissions",
    "infra.set_up_pipeline",
    "release.publish",
)
