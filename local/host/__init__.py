"""The Functions host for a laptop: `python -m local.host`. As small as it can be, around Microsoft's worker library.

The library (azure-functions-runtime) indexes `function_app.py` and calls its functions, as it does in Azure; this
package is the other half, which in Azure is not Python: HTTP routes with keys, timers, Storage queues.

What it does not imitate
------------------------
- The timer's status blob: a tick missed while the host was down is not made up for, and `past_due` is never true.
- The singleton lock: two hosts on one storage account both fire their timers.
- `@app.retry`: it warns, and does not retry. Queue messages are retried, by their dequeue count.
- Other triggers and bindings than HTTP, timer, Storage queue; identity-based connections
  (`<name>__queueServiceUri`); binding expressions such as `{id}` in a queue's name; JSON properties of a message as
  trigger metadata.
- The end of a worker process at `functionTimeout`: an async function is cancelled, a thread is left to run on.
- A hidden message of a killed host comes back after 10 seconds, not 10 minutes, and an idle queue is polled every
  second at least.
- CORS, `customHeaders`, the limits of concurrent requests, route constraints other than those in `routes.py`,
  streamed bodies, EasyAuth, scale-out, sampling, `logging.logLevel` of host.json.
"""
