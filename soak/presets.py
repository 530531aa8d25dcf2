"""Kinds of life."""

from soak.weather import Climate

PRESETS = {
    "usual": Climate(),
    "wide": Climate(fan_out_above=10, queues=4, https=3),  # the timer leaves a message a shard
}
