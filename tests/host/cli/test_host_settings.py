"""The host's settings: where they come from, and what is said when they are wrong."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepick_host.config import KEYS, VARIABLES, read_settings
from edgepick_host.core.settings import HostSettings, parse_broker_url
from edgepick_host.errors import ConfigError


def settings(folder: Path, text: str | None = None, **more) -> HostSettings:
    if text is not None:
        (folder / "edgepick.toml").write_text(text)
    return read_settings(
        **{"folder": folder, "home": folder / "home", "environment": {}, **more},
    )


def test_defaults_without_any_file(tmp_path):
    """Without file, environment and flags there is a broker on this machine and everything in this directory."""
    found = settings(tmp_path)

    assert (found.broker.place, found.broker.tls, found.fleet) == ("127.0.0.1:1883", False, "main")
    assert found.database == str(tmp_path / "edgepick.db")
    assert found.signers.release == f"file:{tmp_path / 'keys' / 'release.pem'}"
    assert found.source is None


def test_flag_over_environment_over_file(tmp_path):
    """A flag wins over the environment, which wins over the file, which wins over the default."""
    text = 'fleet = "a"\ndatabase = "a.db"\n[broker]\nurl = "mqtt://a"\n'
    environment = {"EDGEPICK_FLEET": "b", "EDGEPICK_BROKER": "mqtt://b"}

    found = settings(tmp_path, text, environment=environment, flags={"broker.url": "mqtt://c", "fleet": None})

    assert (found.broker.host, found.fleet, Path(found.database).name) == ("c", "b", "a.db")


def test_paths_begin_at_the_file(tmp_path):
    """A relative path in the file is relative to the file, wherever the command is run."""
    place = tmp_path / "etc"
    place.mkdir()
    (place / "host.toml").write_text(
        'keys = "k"\nprofiles = ["p"]\ndatabase = "d.db"\n[signers]\nrelease = "file:stick/r.pem"\n'
    )

    found = settings(tmp_path, config=place / "host.toml")

    assert found.root_document == str(place / "k" / "root.signed")
    assert found.profile_dirs == (str(place / "p"),)
    assert found.database == str(place / "d.db")
    assert found.signers.release == f"file:{place / 'stick' / 'r.pem'}"
    assert found.signers.campaign == f"file:{place / 'k' / 'campaign.pem'}"


def test_database_url_is_left_alone(tmp_path):
    """A database URL is not a path."""
    assert settings(tmp_path, 'database = "postgresql://db/x"').database == "postgresql://db/x"


def test_file_is_found_in_order(tmp_path):
    """The file that is named wins over the variable, the working directory and the user's."""
    user = tmp_path / "home" / ".config" / "edgepick" / "host.toml"
    user.parent.mkdir(parents=True)
    user.write_text('fleet = "user"')
    found = [settings(tmp_path).fleet]
    (tmp_path / "edgepick.toml").write_text('fleet = "local"')
    found.append(settings(tmp_path).fleet)
    (tmp_path / "v.toml").write_text('fleet = "variable"')
    environment = {"EDGEPICK_CONFIG": str(tmp_path / "v.toml")}
    found.append(settings(tmp_path, environment=environment).fleet)
    (tmp_path / "f.toml").write_text('fleet = "flag"')

    found.append(settings(tmp_path, environment=environment, config=tmp_path / "f.toml").fleet)

    assert found == ["user", "local", "variable", "flag"]


@pytest.mark.parametrize("more", [{"config": Path("none.toml")}, {"environment": {"EDGEPICK_CONFIG": "none.toml"}}])
def test_named_file_must_exist(tmp_path, more):
    """A file that is named and not there is an error that says who named it."""
    with pytest.raises(ConfigError, match=r"none.toml: no such file \(named by"):
        settings(tmp_path, **more)


def test_every_problem_at_once(tmp_path):
    """Each problem is one line with the file, the key, what was found and what is allowed."""
    text = (
        'fleat = "a"\nsecurity_epoch = "two"\nprofiles = "p"\n'
        '[broker]\nurl = "http://x"\nkeepalive_seconds = 1\npasword_file = "p"\n[signers]\nrelease = "r.pem"\n'
    )

    with pytest.raises(ConfigError) as caught:
        settings(tmp_path, text)

    lines = str(caught.value).splitlines()
    assert len(lines) == 7
    assert all(line.startswith(str(tmp_path / "edgepick.toml")) and "allowed:" in line for line in lines)
    assert any("fleat: unknown key (did you mean 'fleet'?)" in line for line in lines)
    assert any("broker.pasword_file: unknown key (did you mean 'broker.password_file'?)" in line for line in lines)
    assert any("keepalive_seconds: found 1; allowed: 5 to 65535" in line for line in lines)


def test_not_toml(tmp_path):
    """A file that is not TOML is named with the line."""
    with pytest.raises(ConfigError, match="line 2"):
        settings(tmp_path, 'fleet = "a"\n= broken\n')


def test_password_comes_from_a_file_or_the_environment(tmp_path):
    """The password is read from its file; the environment wins; neither shows in the settings' text."""
    (tmp_path / "secret").write_text("from-file\n")
    text = '[broker]\nurl = "mqtts://u@h"\npassword_file = "secret"\n'

    by_file = settings(tmp_path, text).broker
    by_variable = settings(tmp_path, environment={"EDGEPICK_BROKER_PASSWORD": "from-variable"}).broker

    assert (by_file.username, by_file.password, by_variable.password) == ("u", "from-file", "from-variable")
    assert "from-file" not in repr(by_file)


def test_missing_password_file_is_a_problem(tmp_path):
    """A password file that is not there is named."""
    with pytest.raises(ConfigError, match=r"broker.password_file: .*secret: No such file"):
        settings(tmp_path, '[broker]\npassword_file = "secret"\n')


@pytest.mark.parametrize("time", ["90d", "36h"])
def test_reports_are_kept_so_long(tmp_path, time):
    """``keep_reports`` is a duration, in the file or by the environment; without it everything is kept."""
    found = settings(tmp_path, f'keep_reports = "{time}"\n', environment={}), settings(tmp_path, "")
    by_variable = settings(tmp_path, "", environment={"EDGEPICK_KEEP_REPORTS": time})

    assert found[0].keep_reports_seconds == by_variable.keep_reports_seconds == {"90d": 7_776_000, "36h": 129_600}[time]
    assert found[1].keep_reports_seconds is None


@pytest.mark.parametrize("time", ["1h", "soon", "0d"])
def test_reports_are_kept_for_a_day_at_least(tmp_path, time):
    """Less than a day, or what is no duration, is a problem that says what is allowed."""
    with pytest.raises(ConfigError, match=r"keep_reports: found .*; allowed: a duration of at least 1d"):
        settings(tmp_path, f'keep_reports = "{time}"\n')


def test_every_variable_sets_a_key():
    """Each environment variable stands for a key that exists."""
    assert set(VARIABLES.values()) <= set(KEYS)


def test_profiles_in_the_environment(tmp_path):
    """``EDGEPICK_PROFILES`` is a list of directories."""
    assert settings(tmp_path, environment={"EDGEPICK_PROFILES": "/a:/b"}).profile_dirs == ("/a", "/b")


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("mqtt://h", ("h", 1883, False, None, None)),
        ("mqtts://h", ("h", 8883, True, None, None)),
        ("h:99", ("h", 99, False, None, None)),
        ("mqtt://[::1]:5", ("::1", 5, False, None, None)),
        ("mqtt://u:p%40s@h/", ("h", 1883, False, "u", "p@s")),
    ],
)
def test_broker_urls(url, parts):
    """A broker's URL is taken apart, with the port of its scheme and percent-escapes undone."""
    found = parse_broker_url(url)

    assert (found.host, found.port, found.tls, found.username, found.password) == parts


@given(text=st.text(max_size=60))
def test_url_is_parsed_or_described(text):
    """Any text is a URL with a host, or is described without being repeated."""
    said = ""
    try:
        found = parse_broker_url(f"mqtt://user:s3cret@{text}")
    except ValueError as error:
        said = str(error)

    assert said or found.host
    assert "s3cret" not in said
