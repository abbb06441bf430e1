"""Every environment variable, once: its name, default, meaning and check, and where its value came from."""

from agent_service.settings.callback import CallbackSettings
from agent_service.settings.description import SettingRow, describe
from agent_service.settings.env_example import render_env_example
from agent_service.settings.loading import load_settings, service_settings
from agent_service.settings.masking import MASK, mask_uri
from agent_service.settings.models import Settings
from agent_service.settings.sections import (
    ApiSettings,
    LogSettings,
    MongoSettings,
    SmtpSettings,
)
from agent_service.settings.service import ServiceSettings
from agent_service.settings.service_names import STANDARD_SERVICES

__all__ = [
    "MASK",
    "STANDARD_SERVICES",
    "ApiSettings",
    "CallbackSettings",
    "LogSettings",
    "MongoSettings",
    "ServiceSettings",
    "SettingRow",
    "Settings",
    "SmtpSettings",
    "describe",
    "load_settings",
    "mask_uri",
    "render_env_example",
    "service_settings",
]
