"""Azure Functions triggers: they parse the request, call `shared` and map the result. They hold no other logic."""
