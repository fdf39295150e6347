"""Where the API would listen."""

from jobrunner.api.server import require_loopback
from jobrunner.doctor.findings import Told, ok, serious, warning
from jobrunner.doctor.situation import Situation
from jobrunner.errors import SettingError


def check(situation: Situation) -> Told:
    """Whether the API would start with this address."""
    settings = situation.settings
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    try:
        require_loopback(f"{host}:{settings.port}")
    except SettingError as error:
        said = f"the API does not start: {error}"
        yield warning(f"{said}, unless systemd passes it") if situation.unit_serves else serious(said)
    else:
        yield ok(f"{host}:{settings.port} stays on this machine")
