"""A small Functions host for laptops and tests, around Microsoft's worker library: `python -m local.host`.

The library (azure-functions-runtime) indexes `function_app.py` and calls its functions, as it does in Azure. This
package replaces Azure's host, which is not written in Python: HTTP routes with keys, timers, Storage queues.

Differences from Azure's host
-----------------------------
- It keeps no status blob of timers: a run that was missed while the host was down is not caught up, and `past_due` is
  never true.
- It takes no singleton lock: two hosts on one storage account both fire their timers.
- It ignores `@app.retry` with a warning. Queue messages are retried by their dequeue count.
- It knows only HTTP, timer and Storage queue triggers and bindings. It has no identity-based connections
  (`<name>__queueServiceUri`), no binding expressions such as `{id}` in a queue's name, and no JSON properties of a
  message as trigger metadata.
- At `functionTimeout` it does not end the worker process: it cancels an async function, and a thread runs on.
- A hidden message of a killed host comes back after 10 seconds, not 10 minutes. An idle queue is polled at least every
  second.
- It has no CORS, `customHeaders`, limits of concurrent requests, route constraints other than those in `routes.py`,
  streamed bodies, EasyAuth, scale-out, sampling, and ignores `logging.logLevel` in host.json.
"""
