"""The bot app of the simulated deployment."""

from shared.config.apps import Apps, BotApp
from soak.fault_schedule import APP_ID

APPS = Apps((BotApp(appId=APP_ID, credential="managedIdentity"),))
