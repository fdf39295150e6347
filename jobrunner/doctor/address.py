"""Where the API would listen."""

from jobrunner.api.server import needs_token_at
from jobrunner.doctor.findings import Told, ok, serious, warning
from jobrunner.doctor.situation import Situation
from jobrunner.errors import SettingError, StoreError


def check(situation: Situation) -> Told:
    """Whether the API would start with this address."""
    settings = situation.settings
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    try:
        needs_token = needs_token_at([(settings.host, settings.port)], settings)
    except (SettingError, StoreError) as error:
        said = f"the API does not start: {error}"
        yield warning(f"{said}, unless systemd passes it") if situation.unit_serves else serious(said)
    else:
        where = "can be reached from elsewhere, with a token" if needs_token else "stays on this machine"
        yield ok(f"{host}:{settings.port} {where}")
