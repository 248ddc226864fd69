"""Which W&B server, is there a key for it, and does it answer: decided without asking the user.

Left to itself the client asks for a key on a terminal, raises without one elsewhere, and waits minutes for a dead
network.
"""

from __future__ import annotations

import configparser
import netrc
import os
import threading
import urllib.error
import urllib.request
from urllib.parse import urlsplit

from trainer.config import Config
from trainer.trackers.wandb_variables import is_set
from trainer.utils.errors import UserError
from trainer.utils.home import expanded

ANSWER_SECONDS = 2.0
MODES = {"online": "online", "run": "online", "offline": "offline", "dryrun": "offline", "disabled": "disabled"}
SAAS_HOST = "api.wandb.ai"  # `wandb login` has long stored keys under this name


def tidy_environment() -> None:
    """Spare the client what it stumbles over: empty variables, and the line break at the end of a mounted secret.

    Its crash reports to a third party are switched off unless the user has set them.
    """
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        if value := os.environ[name].strip():
            os.environ[name] = value
        else:
            del os.environ[name]
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")


def base_url(stated: str | None = None) -> str:
    """The server that the client would use: tracker.base_url, $WANDB_BASE_URL, the user's settings file, or the
    client's default."""
    if url := stated or os.environ.get("WANDB_BASE_URL") or _user_setting("base_url"):
        return url.rstrip("/")
    import wandb

    return str(wandb.Settings().base_url).rstrip("/")


def keys(url: str, *, stated: bool = False) -> list[str]:
    """Every API key that the client might use for this server, best first; empty without any. stated: somebody chose
    the server, so that a key of another one does not do."""
    found = [os.environ.get("WANDB_API_KEY"), _netrc_password(url, stated), _user_setting("api_key")]
    return [key for key in found if key]


def has_credentials(url: str, *, stated: bool = False) -> bool:
    return bool(keys(url, stated=stated) or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"))


def answers(url: str, seconds: float = ANSWER_SECONDS) -> bool:
    """Whether the server says anything at all over HTTP in time. No key is sent."""
    if not url.startswith(("https://", "http://")):  # a file would answer too
        return False
    answered = threading.Event()

    def ask() -> None:
        try:
            urllib.request.urlopen(url, timeout=seconds).close()  # nosec B310
            answered.set()
        except urllib.error.HTTPError as error:  # 404 or 401 is an answer; 502 is a proxy in front of nothing
            if error.code < 500:
                answered.set()
        except (OSError, ValueError):
            pass

    thread = threading.Thread(target=ask, name="wandb-answers", daemon=True)  # a name look-up knows no time-out
    thread.start()
    thread.join(seconds)
    return answered.is_set()


def choose_mode(wanted: str, server: str | None = None) -> tuple[str, str]:
    """online, offline or disabled for tracker.wandb, and the reason where online was hoped for and is not. server:
    tracker.base_url."""
    if wanted == "auto":
        asked = os.environ.get("WANDB_MODE", "").strip().lower()
        wanted = "disabled" if is_set("WANDB_DISABLED") else MODES.get(asked, "auto")
    if wanted in ("offline", "disabled"):
        return wanted, ""
    url = base_url(server)
    if not has_credentials(url, stated=server is not None):
        return "offline", f"no API key for {host(url)}"
    if not answers(url):
        return "offline", f"{host(url)} does not answer"
    return "online", ""


def check(config: Config) -> None:
    """Before a run starts: `tracker.wandb=online` is a promise, so raise UserError when it cannot be kept."""
    if config.tracker.wandb != "online":
        return
    tidy_environment()
    mode, reason = choose_mode("online", config.tracker.base_url)
    if mode != "online":
        raise UserError(
            f"tracker.wandb: online was asked for, but {reason}; use tracker.wandb=auto (offline when it must be), "
            "or set WANDB_API_KEY and WANDB_BASE_URL"
        )


def host(url: str) -> str:
    """The server's name without a path and without credentials."""
    return urlsplit(url).netloc.rpartition("@")[2] or "the W&B server"


def redact(text: str) -> str:
    """Text without any API key in it."""
    secrets = [os.environ.get("WANDB_API_KEY"), _user_setting("api_key"), *_netrc_passwords()]
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    return text


def _user_setting(name: str) -> str | None:
    folder = expanded(os.environ.get("WANDB_CONFIG_DIR", "~/.config/wandb"))
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(folder / "settings")
    except (OSError, configparser.Error, UnicodeDecodeError):
        return None
    return parser.get("default", name, fallback=None)


def _netrc() -> netrc.netrc | None:
    for path in (os.environ.get("NETRC"), "~/.netrc", "~/_netrc"):
        if path and expanded(path).is_file():
            try:
                return netrc.netrc(expanded(path))
            except (OSError, netrc.NetrcParseError, UnicodeDecodeError):
                return None
    return None


def _netrc_password(url: str, stated: bool) -> str | None:
    file = _netrc()
    if file is None:
        return None
    names = [host(url)] if stated or os.environ.get("WANDB_BASE_URL") else [host(url), SAAS_HOST]
    for name in names:
        if name in file.hosts and file.hosts[name][2]:
            return file.hosts[name][2]
    return None


def _netrc_passwords() -> list[str]:
    file = _netrc()
    return [entry[2] for entry in file.hosts.values() if entry[2]] if file else []
