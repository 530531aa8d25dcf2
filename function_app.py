"""The `app` that the Functions host loads. It registers the blueprints of `functions`."""

import azure.functions as func

from functions import calls, deliveries, keep_alive, notifications, relay, service
from shared.config.settings import has_relay_targets

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)
for _module in (keep_alive, notifications, calls, deliveries, service):
    app.register_functions(_module.blueprint)
if has_relay_targets():
    app.register_functions(relay.blueprint)
