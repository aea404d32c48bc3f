"""The configuration: every problem at once, and where each value came from."""

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepick_agent import config, instruments
from edgepick_agent.config import ENVIRONMENT, Origin, load_settings, read_config, schema
from edgepick_agent.core import rules
from edgepick_agent.core.config_text import NewConfig, config_text
from edgepick_agent.errors import ConfigError

WRONG = """
device = "Pi 4"
flet = "farm"
stand_in = "yes"
root_document = "nowhere.signed"
sensors = ["rapl"]
host = "somewhere"
fetch = 3

[broker]
port = 70000
hots = "x"
key_file = "device.key"

[runner]
runtimes = ["tensorflow"]
max_failures = 0
"""


def text_of(call):
    with pytest.raises(ConfigError) as caught:
        call()
    return str(caught.value)


def test_a_small_file_is_completed_by_the_defaults(config_file):
    """What the file does not name has its default, and a relative path is relative to the file."""
    settings = load_settings(config_file, {})

    assert (settings.device, settings.broker.port, settings.fetch.window) == ("pi-7", 1, 64)
    assert settings.state_dir == str(config_file.parent / "state")


def test_a_user_who_is_none_has_no_home(config_file):
    """A path that begins with the home of nobody is taken as it is, as a shell does."""
    settings = load_settings(config_file, {"EDGEPICK_AGENT_ROOT_DOCUMENT": "~nobody-of-that-name/x"}, files=False)

    assert settings.root_document == str(config_file.parent / "~nobody-of-that-name/x")


def test_every_problem_is_named_at_once(tmp_path):
    """One message names each wrong key, what was found, and what is allowed."""
    path = tmp_path / "agent.toml"
    path.write_text(WRONG)

    message = text_of(lambda: load_settings(path, {}))

    for expected in (
        "fetch: found 3; expected a table: [fetch]",
        "flet: unknown key; did you mean 'fleet'?",
        "stand_in: found 'yes'; expected true or false",
        "host: unknown key; did you mean 'host' in [broker]?",
        "broker.hots: unknown key; did you mean 'host' in [broker]?",
        "fleet: missing;",
        "profile: missing;",
        "broker.host: missing;",
        "device: found 'Pi 4'; allowed: 1 to 64 of a-z 0-9",
        "sensors: found ['rapl']; allowed: hwmon-ina3221",
        "broker.port: found 70000; allowed: 1 to 65535",
        "runner.runtimes: found ['tensorflow']; allowed: litert",
        "runner.max_failures: found 0; allowed: 1 to 1000",
        "broker.key_file: needs broker.cert_file beside it",
        "root_document:",
    ):
        assert f"{path}: {expected}" in message
    assert message.startswith("16 problems")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("missing.toml", None, "no such file"),
        ("agent.toml", b"device = pi", "not TOML"),
        ("agent.toml", b"device = '\xff'", "not TOML"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path, name, content, expected):
    """A missing file, and one that is not TOML, are one clear message each."""
    if content is not None:
        (tmp_path / name).write_bytes(content)

    assert expected in text_of(lambda: load_settings(tmp_path / name, {}))


def test_the_environment_wins_over_the_file_and_the_file_over_the_default(config_file):
    """Each value says whether it is a default, or from the file or the environment."""
    loaded = read_config(config_file, {"EDGEPICK_AGENT_BROKER_PORT": "8883", "EDGEPICK_AGENT_STAND_IN": "true"})

    assert (loaded.settings.broker.port, loaded.settings.stand_in) == (8883, True)
    assert loaded.origins["broker.port"] is Origin.ENVIRONMENT
    assert loaded.origins["broker.host"] is Origin.FILE
    assert loaded.origins["broker.tls"] is Origin.DEFAULT


def test_a_wrong_environment_variable_is_named(config_file):
    """The message about a value from the environment names the variable to change."""
    environ = {"EDGEPICK_AGENT_BROKER_PORT": "eighty", "EDGEPICK_AGENT_DEVICE": "Pi 7"}

    message = text_of(lambda: load_settings(config_file, environ))

    assert "broker.port (from EDGEPICK_AGENT_BROKER_PORT): found 'eighty'; expected a whole number" in message
    assert "device (from EDGEPICK_AGENT_DEVICE): found 'Pi 7'" in message


def test_a_mistyped_environment_variable_is_a_warning(config_file):
    """A variable with our prefix that means nothing is mentioned with the one that was meant."""
    loaded = read_config(config_file, {"EDGEPICK_AGENT_BROKR_HOST": "x"})

    assert ["no effect; did you mean 'EDGEPICK_AGENT_BROKER_HOST'?" in str(w) for w in loaded.warnings] == [True]


def test_a_password_that_others_can_read_is_a_warning(config_file):
    """The mode of a file that holds a secret is looked at."""
    secret = config_file.parent / "password"
    secret.write_text("x")
    with config_file.open("a") as file:
        file.write('username = "pi"\npassword_file = "password"\n')
    secret.chmod(0o644)
    open_to_all = read_config(config_file, {}).warnings
    secret.chmod(0o600)

    assert "chmod 600" in str(open_to_all[0])
    assert read_config(config_file, {}).warnings == ()


def test_files_need_not_be_there_for_commands_that_do_not_read_them(config_file, root_file):
    """A missing root document stops the agent, but not ``status``."""
    root_file.unlink()

    assert "no such file" in text_of(lambda: load_settings(config_file, {}))
    assert load_settings(config_file, {}, files=False).device == "pi-7"


def test_a_state_directory_too_long_for_sockets_is_refused(config_file):
    """A path below which no Unix socket can be made is found here, not at the first model."""
    message = text_of(lambda: load_settings(config_file, {"EDGEPICK_AGENT_STATE_DIR": "/" + "x" * 90}))

    assert "state_dir (from EDGEPICK_AGENT_STATE_DIR)" in message
    assert "sockets lie in it" in message


def test_the_tables_of_names_agree_with_the_rest():
    """Sensors, environment, rules and sections name only what exists elsewhere."""
    assert set(rules.SENSORS) == set(instruments.SENSORS)
    assert set(ENVIRONMENT.values()) <= set(schema())
    assert set(rules.RULES) | rules.FILES | rules.PATHS | rules.SECRETS <= set(schema())
    assert {f"broker.{k}" for k in ("host", "port")} <= set(schema())


def test_a_new_configuration_shows_every_key():
    """The file that ``init`` writes names each key of the settings, commented out where it is a default."""
    text = config_text(
        NewConfig(
            device="d", fleet="f", profile="p", state_dir="/s", root_document="r", broker_host="h", broker_port=1,
            tls=False, stand_in=False,
        )
    )  # fmt: skip
    uncommented = "\n".join(line[2:] if line.startswith("# ") and " = " in line else line for line in text.splitlines())

    document = config.tomllib.loads(uncommented)

    flat = {k for k, v in document.items() if not isinstance(v, dict)} | {"labels", "sysfs_root"}
    flat |= {f"{section}.{k}" for section in config.SECTIONS for k in document[section]}
    assert flat == set(schema())


names = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True)
paths = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)


@given(
    new=st.builds(
        NewConfig,
        device=names,
        fleet=names,
        profile=names,
        state_dir=paths.map(lambda text: f"/{text}x"),
        root_document=paths.map(lambda text: f"/{text}x"),
        broker_host=names,
        broker_port=st.integers(1, 65535),
        tls=st.booleans(),
        stand_in=st.booleans(),
        remarks=st.tuples(st.text(st.characters(codec="utf-8", exclude_categories=("Cc",)), max_size=40)),
    )
)
def test_what_init_writes_is_read_back_exactly(tmp_path_factory, new):
    """Whatever a path or a machine's name holds, the written file is TOML and means the same."""
    path = tmp_path_factory.mktemp("config") / "agent.toml"
    path.write_text(config_text(new), encoding="utf-8")

    settings = load_settings(path, {}, files=False)

    assert (settings.device, settings.fleet, settings.profile) == (new.device, new.fleet, new.profile)
    assert settings.state_dir == os.path.normpath(new.state_dir)
    assert settings.root_document == os.path.normpath(new.root_document)
    assert (settings.broker.host, settings.broker.port, settings.broker.tls) == (
        new.broker_host,
        new.broker_port,
        new.tls,
    )
    assert settings.stand_in is new.stand_in


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3),
    max_leaves=5,
)
toml_values = values.filter(lambda v: "null" not in json.dumps(v))


@given(document=st.dictionaries(st.sampled_from([*schema(), *config.SECTIONS, "x"]), toml_values, max_size=8))
def test_any_document_ends_in_settings_or_a_message(tmp_path_factory, document):
    """No value of any type in any key leads to anything else than settings or a ConfigError."""
    path = tmp_path_factory.mktemp("config") / "agent.toml"
    path.write_text("\n".join(f"{key} = {toml(value)}" for key, value in document.items()), encoding="utf-8")

    try:
        loaded = read_config(path, {})
    except ConfigError:
        return
    assert (loaded.settings is None) == bool(loaded.problems)


def toml(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(toml(v) for v in value) + "]"
    if isinstance(value, float):
        return {"Infinity": "inf", "-Infinity": "-inf"}.get(json.dumps(value), json.dumps(value))
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def test_check_and_show_speak_json_and_text(command, config_file, root_file):
    """``config check`` and ``config show`` have a form for people and one for programs."""
    shown = command("config", "show", "-c", config_file)
    checked = command("config", "check", "-c", config_file)
    document = json.loads(command("config", "show", "-c", config_file, "--json").stdout)
    root_file.unlink()
    failed = command("config", "check", "-c", config_file, "--json")

    assert "broker.port" in shown.stdout
    assert (checked.exit_code, checked.stdout) == (0, f"{config_file}: OK\n")
    assert document["broker.port"] == {"value": 1, "origin": "file"}
    assert failed.exit_code == 2
    assert [p["key"] for p in json.loads(failed.stdout)["problems"]] == ["root_document"]


def test_a_wrong_configuration_ends_a_command_with_code_2(command, tmp_path):
    """Any command that needs the configuration shows all its problems and exits 2, without a trace."""
    path = tmp_path / "agent.toml"
    path.write_text(WRONG)

    result = command("status", "-c", path)

    assert result.exit_code == 2
    assert "14 problems" in result.stderr
    assert "Traceback" not in result.stderr
