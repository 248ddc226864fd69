"""Is there a key, does the server answer, and what does `online` promise before a run starts."""

from __future__ import annotations

import os
import socket

import pytest

from trainer.config import Config
from trainer.trackers import wandb_server as server
from trainer.utils.errors import UserError

KEY = "f" * 40


@pytest.fixture(autouse=True)
def nothing_set(tmp_path, monkeypatch):
    for name in list(os.environ):
        if name.startswith("WANDB"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def write_settings(tmp_path, text: str) -> None:
    folder = tmp_path / ".config" / "wandb"
    folder.mkdir(parents=True)
    (folder / "settings").write_text(text)


def test_a_key_from_the_environment_the_netrc_or_the_settings(tmp_path, monkeypatch):
    url = "https://wandb.example.org:8443/path"
    assert not server.has_credentials(url)
    (tmp_path / "netrc").write_text(f"machine wandb.example.org:8443\n login user\n password {KEY}\n")
    assert server.keys(url) == [KEY]
    assert not server.has_credentials("https://elsewhere.example.org")
    monkeypatch.setenv("WANDB_API_KEY", "e" * 40)
    assert server.keys(url)[0] == "e" * 40
    assert server.has_credentials("https://elsewhere.example.org")


def test_the_servers_name_from_the_environment_the_settings_or_the_client(tmp_path, monkeypatch):
    import wandb

    assert server.base_url() == wandb.Settings().base_url
    write_settings(tmp_path, "[default]\nbase_url = https://settings.example.org/\n")
    assert server.base_url() == "https://settings.example.org"
    monkeypatch.setenv("WANDB_BASE_URL", "https://environment.example.org")
    assert server.base_url() == "https://environment.example.org"


@pytest.mark.parametrize("text", ["machine\n", "\x00\xff", "machine x login\n"])
def test_a_broken_netrc_is_no_key(tmp_path, text):
    (tmp_path / "netrc").write_text(text)
    assert server.keys("https://wandb.example.org") == []


def test_answers(wandb_server):
    assert server.answers(wandb_server.url)  # 404 is an answer
    wandb_server.die()
    assert not server.answers(wandb_server.url)


def test_silence_and_nonsense_are_no_answer():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        assert not server.answers(f"http://127.0.0.1:{listener.getsockname()[1]}", seconds=0.2)
    assert not server.answers("no address at all")
    assert not server.answers("http://name.invalid")


def test_online_is_a_promise_that_is_checked_before_the_run(monkeypatch, wandb_server):
    online = Config.model_validate({"tracker": {"wandb": "online"}})
    monkeypatch.setenv("WANDB_BASE_URL", wandb_server.url)
    with pytest.raises(UserError, match="no API key for 127"):
        server.check(online)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    server.check(online)
    wandb_server.die()
    with pytest.raises(UserError, match="does not answer") as caught:
        server.check(online)
    assert KEY not in str(caught.value)
    assert "\n" not in str(caught.value)
    for mode in ("auto", "offline", "disabled"):
        server.check(Config.model_validate({"tracker": {"wandb": mode}}))


def test_no_key_survives_redaction(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    (tmp_path / "netrc").write_text("machine a.example.org\n login user\n password hush\n")
    write_settings(tmp_path, "[default]\napi_key = sesame\n")
    assert server.redact(f"401 for {KEY}, hush and sesame") == "401 for ***, *** and ***"


def test_a_name_in_a_message_has_no_credentials():
    assert server.host("https://user:secret@wandb.example.org/path") == "wandb.example.org"
