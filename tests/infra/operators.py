"""The modules that operators run with plain `python3`: neither they nor their imports need an installed package."""

RUN_BY_OPERATORS = (
    "infra.azd",
    "infra.deploy",
    "infra.grant_graph_permissions",
    "infra.set_up_pipeline",
    "release.publish",
)
