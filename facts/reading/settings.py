"""The settings of a host, as pyinfra has loaded them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gb10.group_data.settings import AnyTopic, Settings

if TYPE_CHECKING:
    from pyinfra.api import Host

_NOT_SAID = object()


def settings_of(node: Host, topic: type[AnyTopic], /, **instead: Any) -> AnyTopic:
    """
    Return a topic of a host's settings. Raise SettingsError for what cannot be.

    + instead: values of fields that count instead of the inventory, unless they are None
    """
    names = (topic.prefix + field for field in topic.model_fields)
    said = {name: value for name in names if (value := node.data.get(name, _NOT_SAID)) is not _NOT_SAID}
    return Settings(said).read(topic, **instead)
