from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from endpoints.errors import SettingsError
from endpoints.settings import Settings, find_project, hide_password, load_settings, url_folder, variables

DOCS = Path(__file__).parents[1] / "docs/settings.md"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "project/deep/er").mkdir(parents=True)
    (tmp_path / "project/pyproject.toml").write_text("")
    return tmp_path / "project"


def test_defaults_are_those_of_the_design(project: Path) -> None:
    settings = load_settings(project)
    assert settings.defs == project / "endpoint_defs"
    assert settings.clickhouse_url == f"chdb://{project}/data"
    assert settings.lake_url == f"file://{project}/lake"
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.keys_url is settings.secret is settings.redis_url is None
    assert settings.cors_origins == settings.alerts == ()
    assert settings.live_wait == timedelta(seconds=2)


def test_live_runs_at_once_are_those_that_the_warehouse_can_run(project: Path) -> None:
    settings = Settings(project=project, live_concurrency=8, embedded_workers=3)
    assert settings.live_at_once == 3
    assert settings.model_copy(update={"embedded_workers": 9}).live_at_once == 8
    server = Settings(project=project, clickhouse_url="clickhouse://127.0.0.1:9000", live_concurrency=8)
    assert server.live_at_once == 8


def test_paths_start_at_the_project_wherever_one_is(project: Path, monkeypatch) -> None:
    (project / ".env").write_text("ENDPOINTS_LAKE_URL=file://../shared/lake\nENDPOINTS_DEFS=/elsewhere\n")
    for cwd in (project, project / "deep", project / "deep/er"):
        monkeypatch.chdir(cwd)
        settings = load_settings()
        assert settings.project == project
        assert settings.lake_url == f"file://{project.parent}/shared/lake"
        assert settings.defs == Path("/elsewhere")


def test_the_nearest_marked_folder_is_the_project(project: Path, tmp_path: Path) -> None:
    assert find_project(project / "deep/er") == project
    (project / "deep/.env").write_text("")
    assert find_project(project / "deep/er") == project / "deep"
    assert find_project(tmp_path) == tmp_path, "no marker above: the folder itself"


def test_the_environment_goes_before_the_file(project: Path, monkeypatch) -> None:
    (project / ".env").write_text("ENDPOINTS_PORT=9001\nENDPOINTS_HOST=0.0.0.0\nENDPOINTS_REDIS_URL=\n")
    monkeypatch.setenv("ENDPOINTS_PORT", "9002")
    settings = load_settings(project)
    assert (settings.host, settings.port, settings.redis_url) == ("0.0.0.0", 9002, None)


def test_lists_durations_and_sizes_are_written_as_people_write_them(project: Path, monkeypatch) -> None:
    monkeypatch.setenv("ENDPOINTS_CORS_ORIGINS", "https://a.example, http://localhost:5173,")
    monkeypatch.setenv("ENDPOINTS_LIVE_WAIT", "500ms")
    monkeypatch.setenv("ENDPOINTS_CACHE_BYTES", "1GiB")
    settings = load_settings(project)
    assert settings.cors_origins == ("https://a.example", "http://localhost:5173")
    assert (settings.live_wait, settings.cache_bytes) == (timedelta(milliseconds=500), 2**30)


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("PORT", "99999", "65535"),
        ("PORT", "http", "integer"),
        ("CORS_ORIGINS", "https://a.example,*", r"may not hold `\*`"),
        ("CORS_ORIGINS", "https://*.example", r"may not hold `\*`"),
        ("CORS_ORIGINS", "https://a.example/path", "not an origin"),
        ("CLICKHOUSE_URL", "postgres://u:hunter2@h/d", "chdb://DIR"),
        ("CLICKHOUSE_URL", "clickhouse://u:hunter2@h:port/d", "not a number"),
        ("CLICKHOUSE_URL", "clickhouse://u:hunter2@h:0/d", "port 0"),
        ("CLICKHOUSE_URL", "clickhouse://u:hunter2@h:99999/d", "65535"),
        ("CLICKHOUSE_URL", "clickhouse://:9000", "no host"),
        ("CLICKHOUSE_URL", "chdb://", "no folder"),
        ("LAKE_URL", "gs://bucket", "s3://"),
        ("LAKE_URL", "s3:///prefix", "no bucket"),
        ("LAKE_URL", "./lake", "file://DIR"),
        ("KEYS_URL", "http://x", "s3://"),
        ("REDIS_URL", "memcached://x", "redis://"),
        ("LIVE_WAIT", "soon", "as in 90s"),
        ("CACHE_BYTES", "many", "as in 1GiB"),
        ("LIVE_CONCURRENCY", "0", "greater than or equal to 1"),
        ("PROJECT_NAME", "a/b", "pattern"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_the_variable(project, monkeypatch, name, value, why) -> None:
    monkeypatch.setenv(f"ENDPOINTS_{name}", value)
    with pytest.raises(SettingsError, match=f"^ENDPOINTS_{name}: .*{why}") as caught:
        load_settings(project)
    assert "\n" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_all_that_is_wrong_is_said_at_once(project: Path, monkeypatch) -> None:
    monkeypatch.setenv("ENDPOINTS_PORT", "-1")
    monkeypatch.setenv("ENDPOINTS_LAKE_URL", "lake")
    with pytest.raises(SettingsError) as caught:
        load_settings(project)
    assert {line.split(":")[0] for line in str(caught.value).splitlines()} == {
        "ENDPOINTS_PORT",
        "ENDPOINTS_LAKE_URL",
    }


def test_secrets_show_nowhere(project: Path, monkeypatch) -> None:
    for name, value in {
        "ENDPOINTS_SECRET": "hunter2" * 5,
        "ENDPOINTS_CLICKHOUSE_URL": "clickhouse://me:hunter2@host:9000/db?password=hunter2",
        "ENDPOINTS_REDIS_URL": "redis://:hunter2@host/0",
        "ENDPOINTS_ALERTS": "slack://hunter2",
        "AWS_SECRET_ACCESS_KEY": "hunter2",
    }.items():
        monkeypatch.setenv(name, value)
    settings = load_settings(project)
    assert "hunter2" in settings.clickhouse_url
    for text in (repr(settings), str(settings), f"{settings}"):
        assert "hunter2" not in text
        assert "clickhouse://me:***@host:9000/db" in text


def test_a_misspelt_variable_is_said(project: Path, monkeypatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("ENDPOINTS_LAKE_URI", "file://x")
    load_settings(project)
    assert "did you mean ENDPOINTS_LAKE_URL" in caplog.text


def test_aws_variables_may_be_in_the_file(project: Path, monkeypatch) -> None:
    (project / ".env").write_text("AWS_ACCESS_KEY_ID=file\nAWS_REGION=eu-central-1\n")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "environment")
    settings = load_settings(project)
    assert settings.aws["AWS_ACCESS_KEY_ID"] == SecretStr("environment")
    assert settings.aws["AWS_REGION"] == SecretStr("eu-central-1")


def test_aws_variables_of_the_environment_are_there_without_a_file(project: Path, monkeypatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9000")
    assert Settings(project=project).aws == {"AWS_ENDPOINT_URL": SecretStr("http://127.0.0.1:9000")}


@pytest.mark.parametrize("name", ["PROJECT", "AWS"])
def test_what_is_found_cannot_be_set(project: Path, monkeypatch, name: str) -> None:
    monkeypatch.setenv(f"ENDPOINTS_{name}", "{}")
    assert load_settings(project).project == project


def test_settings_do_not_change() -> None:
    settings = Settings(project=Path("/p"), lake_url="file://./x")
    assert settings.lake_url == "file:///p/x"
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1  # type: ignore[misc]


def test_a_url_may_name_a_folder_with_spaces_and_signs(project: Path, monkeypatch) -> None:
    monkeypatch.setenv("ENDPOINTS_LAKE_URL", "file://./my lake %20?#x")
    assert url_folder(load_settings(project).lake_url) == project / "my lake %20?#x"
    assert url_folder("s3://bucket/x") is None


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("clickhouse://u:p@h:9000/d", "clickhouse://u:***@h:9000/d"),
        ("clickhouse://u@h/d", "clickhouse://u@h/d"),
        ("redis://:p@h", "redis://:***@h"),
        ("s3://bucket/x?key=p", "s3://bucket/x?***"),
        ("chdb:///a", "chdb:///a"),
    ],
)
def test_passwords_are_hidden(url: str, shown: str) -> None:
    assert hide_password(url) == shown


def test_every_setting_is_documented() -> None:
    text = DOCS.read_text()
    missing = [name for name in variables() if f"`{name}`" not in text]
    assert not missing, f"docs/settings.md lacks {missing}"


def test_nothing_else_is_documented() -> None:
    named = set(re.findall(r"^\| `(ENDPOINTS_[A-Z_]+)`", DOCS.read_text(), re.MULTILINE))
    assert named == set(variables())
