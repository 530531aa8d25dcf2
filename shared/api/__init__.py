"""The API for bots and operators and Graph's webhook, independent of Azure Functions and of routing."""
