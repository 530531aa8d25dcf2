"""The relay: the time until the bot hears, and its cost, beside the same host without it and with a dead target."""

import json
from base64 import b64encode
from collections import defaultdict

from bench import relay_load
from bench.counting_host import pattern_of_phase
from bench.figures import median_of, numbers_of
from bench.measure import Figures
from bench.processes import Json, free_port, module_command, parse_figures, print_progress, run_command
from bench.webhook import graph_with_key, running_host, running_storage, token_of

VARIANTS = ("off", "relay", "dead_beside")
PACED_SHARE = 0.4  # of the calls
_POLLS = {"queue: get"}  # of the host, which polls in any case
_SECRET = "RELAY_BENCH_SECRET"  # noqa: S105 (the name of a setting)


def measure_relay(calls: int, rounds: int) -> Json:
    """Measure the host without targets, with a healthy one, and with a dead one beside it, round by round."""
    figures = defaultdict[str, list[Figures]](list)
    transactions: dict[str, Json] = {}
    with graph_with_key() as (url, key):
        for number in range(rounds):
            for variant in VARIANTS:
                print_progress(f"relay of {calls} calls, {variant}, round {number + 1} of {rounds}")
                with running_storage(url) as (_, env):
                    found, counted = _measure(calls, variant, env, token_of(key, env))
                figures[variant].append(found)
                transactions[variant] = counted
    return {
        "rate": relay_load.RATE,
        "variants": {variant: median_of(each) for variant, each in figures.items()},
        "transactions": transactions,
    }


def _measure(calls: int, variant: str, env: dict[str, str], token: str) -> tuple[Figures, Json]:
    port = free_port()
    with running_host({**env, **_settings(variant, port)}, program="bench.counting_host") as (host, address):
        options = relay_load.Options(
            webhook=f"{address}/api/notifications",
            bot_port=port,
            token=token,
            host=host.pid,
            paced_calls=max(1, int(PACED_SHARE * calls)),
            flooding_calls=calls,
            is_relayed=variant != "off",
        )
        figures = numbers_of(parse_figures(run_command(module_command("relay_load", str(options)))))
        # The first phase has the requests before.
        lines = {kind: host.wait_for(pattern_of_phase(number))[0] for number, kind in enumerate(relay_load.KINDS, 1)}
    return figures, {kind: _per_notification(line, options.counted_calls) for kind, line in lines.items()}


def _settings(variant: str, port: int) -> dict[str, str]:
    # Sweeps and looks ask storage for things that belong to no notification.
    others = ("keep_alive_timer", "keep_alive_queue", "relay_timer")
    disabled = {f"AzureWebJobs_{function}_Disabled": "true" for function in others}
    if variant == "off":
        return disabled
    targets = [{"name": "bot", "url": f"http://127.0.0.1:{port}/bot", "format": "graph"}]
    if variant == "dead_beside":
        closed = f"http://127.0.0.1:{free_port()}/events"  # nothing listens on this port
        targets.append({"name": "dead", "url": closed, "format": "events", "secretSetting": _SECRET})
    secret = f"whsec_{b64encode(bytes(range(32))).decode()}"
    return {**disabled, "RELAY_TARGETS": json.dumps(targets), _SECRET: secret}


def _per_notification(line: str, calls: int) -> Json:
    requests: dict[str, int] = json.loads(line)["requests"]
    return {kind: count / calls for kind, count in sorted(requests.items()) if kind not in _POLLS}
